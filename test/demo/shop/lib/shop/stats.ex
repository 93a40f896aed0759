defmodule Shop.Stats do
  @moduledoc "What the shop has sold since it started."
  use Agent

  def start_link(_), do: Agent.start_link(fn -> %{orders: 0, revenue: 0} end, name: __MODULE__)

  def sold(cents),
    do: Agent.cast(__MODULE__, &%{&1 | orders: &1.orders + 1, revenue: &1.revenue + cents})
end
