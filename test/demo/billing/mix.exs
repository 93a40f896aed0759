defmodule Billing.MixProject do
  use Mix.Project

  def project, do: [app: :billing, version: "0.1.0", elixir: "~> 1.14", deps: []]

  def application, do: [mod: {Billing.Application, []}, extra_applications: [:logger, :crypto]]
end
