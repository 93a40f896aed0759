defmodule Shop.Visitors do
  @moduledoc "The load: visitors who fill carts, about 300 of whom order every second."
  use Task, restart: :permanent

  @visitors 2_000
  @tick 50
  @orders_a_tick 15

  def start_link(_) do
    Task.start_link(fn ->
      Process.register(self(), __MODULE__)
      loop()
    end)
  end

  defp loop do
    for _ <- 1..(2 * @orders_a_tick) do
      visitor = :rand.uniform(@visitors)
      visitor |> Shop.Cart.open() |> Shop.Cart.add(Shop.Catalog.pick())
    end

    for _ <- 1..@orders_a_tick, do: order(:rand.uniform(@visitors))
    Process.sleep(@tick)
    loop()
  end

  defp order(visitor) do
    cart = Shop.Cart.open(visitor)
    Shop.Cart.add(cart, Shop.Catalog.pick())
    Shop.Checkout.order(visitor, Shop.Cart.take(cart))
  end
end
