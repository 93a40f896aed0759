defmodule Shop.Checkout do
  @moduledoc "Turns a cart into an order: money first, on the billing node, then the receipt by mail."
  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  def order(visitor, articles), do: GenServer.cast(__MODULE__, {:order, visitor, articles})

  @impl true
  def init(nil), do: {:ok, %{billing: {Billing.Ledger, billing_node()}, next: 1}}

  @impl true
  def handle_cast({:order, visitor, articles}, state) do
    total = articles |> Enum.map(&elem(&1, 2)) |> Enum.sum()

    case charge(state.billing, visitor, total) do
      {:ok, invoice} ->
        Shop.Stats.sold(total)

        Shop.Mailer.deliver(%{
          to: "visitor-#{visitor}@example.org",
          subject: "Your order #{state.next}",
          invoice: invoice,
          articles: Enum.map(articles, &elem(&1, 1))
        })

      {:error, _reason} ->
        # Billing is away; the visitor tries again later.
        :ok
    end

    {:noreply, %{state | next: state.next + 1}}
  end

  defp charge(billing, visitor, total) do
    GenServer.call(billing, {:charge, visitor, total}, 2_000)
  catch
    :exit, reason -> {:error, reason}
  end

  # billing runs beside the shop, under the same host name.
  defp billing_node do
    [_, host] = node() |> Atom.to_string() |> String.split("@")
    :"billing@#{host}"
  end
end
