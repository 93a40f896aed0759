defmodule Shop.Search.Worker do
  @moduledoc "Searches for the visitors, of whom one in ten looks for an article."
  use GenServer

  def child_spec(n), do: Map.put(super(n), :id, n)

  def start_link(n), do: GenServer.start_link(__MODULE__, n, name: :"shop_search_#{n}")

  @impl true
  def init(n) do
    send(self(), :search)
    {:ok, %{worker: n, searches: 0, found: 0}}
  end

  @impl true
  def handle_info(:search, state) do
    Process.send_after(self(), :search, 1)
    word = if :rand.uniform(10) == 1, do: "article", else: "no#{:rand.uniform(5000)}"
    found = length(Shop.Search.find(word))
    {:noreply, %{state | searches: state.searches + 1, found: state.found + found}}
  end
end
