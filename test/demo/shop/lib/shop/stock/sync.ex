defmodule Shop.Stock.Sync do
  @moduledoc """
  Asks the warehouse every quarter of a second how much there is of what.

  This is the bug to find: the warehouse's address in the configuration has a typing
  error, which no one looks at before it is used. Each life of this process is
  as long as it takes to use it.
  """
  use GenServer

  @every 250

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil) do
    Process.send_after(self(), :ask, @every)
    {:ok, %{asked: 0}}
  end

  @impl true
  def handle_info(:ask, state) do
    {_host, _port} = warehouse()
    Process.send_after(self(), :ask, @every)
    {:noreply, %{state | asked: state.asked + 1}}
  end

  defp warehouse do
    [host, port] = :shop |> Application.fetch_env!(:warehouse) |> String.split(":")
    {host, String.to_integer(port)}
  end
end
