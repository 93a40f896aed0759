defmodule Shop.Catalog do
  @moduledoc "The articles and their prices, in an ETS table that everybody reads."
  use GenServer

  @articles 5_000

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "An article, any: {id, name, price in cents}."
  def pick do
    [article] = :ets.lookup(__MODULE__, :rand.uniform(@articles))
    article
  end

  @impl true
  def init(nil) do
    :ets.new(__MODULE__, [:named_table, :protected, read_concurrency: true])

    for id <- 1..@articles,
        do: :ets.insert(__MODULE__, {id, "Article #{id}", 99 + 50 * rem(id, 97)})

    {:ok, nil}
  end
end
