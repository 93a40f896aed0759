defmodule Shop.Stock.Supervisor do
  @moduledoc "Looks after what asks the warehouse. It survives more restarts than it will see."
  use Supervisor

  def start_link(_), do: Supervisor.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil) do
    Supervisor.init([Shop.Stock.Sync], strategy: :one_for_one, max_restarts: 100, max_seconds: 5)
  end
end
