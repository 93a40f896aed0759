defmodule Shop.Mailer.Relay do
  @moduledoc "Stands for the connection to a mail server that answers after 50 ms, if that is this run's fault."
  use GenServer

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil), do: {:ok, nil}

  @impl true
  def handle_info({:mail, from, id, _mail}, state) do
    Process.send_after(from, {:accepted, id}, delay())
    {:noreply, state}
  end

  # Whoever runs the mail server mends it by setting this to 0.
  defp delay, do: Application.get_env(:shop, :relay_delay, usual())
  defp usual, do: if(Shop.Fault.name() == "mailbox", do: 50, else: 0)
end
