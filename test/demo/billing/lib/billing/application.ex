defmodule Billing.Application do
  @moduledoc "The money side of the demo shop, on a node of its own."
  use Application

  @impl true
  def start(_type, _args) do
    children = [
      {Task.Supervisor, name: Billing.Invoice.Supervisor},
      Billing.Rates,
      Billing.Ledger
    ]

    Supervisor.start_link(children,
      strategy: :rest_for_one,
      max_restarts: 100,
      name: Billing.Supervisor
    )
  end
end
