defmodule Billing.Ledger do
  @moduledoc "Books every charge in an ETS table and hands out invoice numbers."
  use GenServer

  # Older bookings are dropped, so that the demo stays small.
  @keep 20_000

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil) do
    :ets.new(__MODULE__, [:named_table, :protected, :ordered_set])
    {:ok, 1}
  end

  @impl true
  def handle_call({:charge, visitor, cents}, _from, invoice) do
    gross = Billing.Rates.gross(cents)
    :ets.insert(__MODULE__, {invoice, visitor, gross, System.system_time(:second)})
    :ets.delete(__MODULE__, invoice - @keep)

    Task.Supervisor.start_child(Billing.Invoice.Supervisor, Billing.Invoice, :print, [
      invoice,
      gross
    ])

    {:reply, {:ok, invoice}, invoice + 1}
  end
end
