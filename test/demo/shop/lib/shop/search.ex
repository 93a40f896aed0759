defmodule Shop.Search do
  @moduledoc """
  Finds articles by a word, in a table of words that some processes search for
  the visitors.

  This is the bug to find: nobody thought of stop words. Each article has the word
  "article", so that who looks for it is copied all of them, in one step that the
  emulator cannot interrupt: whatever else waits for that scheduler waits on.
  """
  use Supervisor

  @articles 400_000

  def start_link(_), do: Supervisor.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "The articles with a word."
  def find(word), do: for({_, id} <- :ets.lookup(__MODULE__, word), do: id)

  @impl true
  def init(nil) do
    :ets.new(__MODULE__, [:named_table, :public, :duplicate_bag, read_concurrency: true])
    for id <- 1..@articles, do: :ets.insert(__MODULE__, {"article", id})
    for id <- 1..@articles, do: :ets.insert(__MODULE__, {"no#{rem(id, 5000)}", id})

    # Enough for every scheduler to have one, and few enough for the memory.
    searchers = min(System.schedulers_online() + 1, 4)
    children = for n <- 1..searchers, do: {Shop.Search.Worker, n}
    Supervisor.init(children, strategy: :one_for_one, max_restarts: 100)
  end
end
