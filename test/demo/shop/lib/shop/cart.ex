defmodule Shop.Cart do
  @moduledoc "One visitor's cart: a process under Shop.Cart.Supervisor, found by the visitor's number."
  use GenServer, restart: :temporary

  @idle 30_000

  def start_link(visitor), do: GenServer.start_link(__MODULE__, visitor, name: via(visitor))

  def open(visitor) do
    case DynamicSupervisor.start_child(Shop.Cart.Supervisor, {__MODULE__, visitor}) do
      {:ok, pid} -> pid
      {:error, {:already_started, pid}} -> pid
    end
  end

  def add(cart, article), do: GenServer.cast(cart, {:add, article})

  @doc "What is in the cart. The cart closes."
  def take(cart), do: GenServer.call(cart, :take)

  defp via(visitor), do: {:via, Registry, {Shop.Cart.Registry, visitor}}

  @impl true
  def init(visitor) do
    Process.put(:visitor, visitor)
    {:ok, [], @idle}
  end

  @impl true
  def handle_cast({:add, article}, articles), do: {:noreply, [article | articles], @idle}

  @impl true
  def handle_call(:take, _from, articles), do: {:stop, :normal, articles, []}

  @impl true
  def handle_info(:timeout, articles), do: {:stop, :normal, articles}
end
