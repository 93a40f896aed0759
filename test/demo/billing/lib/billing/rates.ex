defmodule Billing.Rates do
  @moduledoc "The tax rate, in percent; an agent, so that it can change while the node runs."
  use Agent

  def start_link(_), do: Agent.start_link(fn -> 19 end, name: __MODULE__)

  def gross(cents), do: Agent.get(__MODULE__, &div(cents * (100 + &1), 100))
end
