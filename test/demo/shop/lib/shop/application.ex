defmodule Shop.Application do
  @moduledoc """
  A web shop, as small as one can be and still look like the systems that
  people run: a catalogue in ETS, a cart for each visitor, a checkout that asks
  the billing node for money, and mail to the customer.

  Something is wrong with it, and what it is can be chosen: see Shop.Fault.
  """
  use Application

  @impl true
  def start(_type, _args) do
    children = [
      Shop.Catalog,
      {Registry, keys: :unique, name: Shop.Cart.Registry},
      {DynamicSupervisor, name: Shop.Cart.Supervisor, strategy: :one_for_one},
      Shop.Stats,
      Shop.Mailer.Relay,
      Shop.Mailer,
      Shop.Checkout,
      Shop.Visitors
    ]

    # The mailer may be killed as often as one likes while looking around.
    Supervisor.start_link(children ++ Shop.Fault.children(),
      strategy: :one_for_one,
      max_restarts: 100,
      name: Shop.Supervisor
    )
  end
end
