defmodule Shop.Mailer do
  @moduledoc """
  Sends receipts through the mail relay, one after the other, and waits for the
  relay's answer each time.

  This is the bug to find, unless the run has another: the relay takes 50 ms for a mail, and orders come
  faster than that. Nothing fails and nothing is logged; the mailbox just grows.
  While the mailer waits, its receive walks over the whole mailbox for an answer
  that is always at its end, so it even gets slower.
  """
  use GenServer

  # So that a demo left running over night does not eat the machine.
  @backlog_limit 100_000

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "Sends a mail, some time."
  def deliver(mail) do
    if backlog() < @backlog_limit, do: GenServer.cast(__MODULE__, {:deliver, mail})
  end

  defp backlog do
    with pid when is_pid(pid) <- Process.whereis(__MODULE__),
         {:message_queue_len, n} <- Process.info(pid, :message_queue_len) do
      n
    else
      _ -> 0
    end
  end

  @impl true
  def init(nil), do: {:ok, %{sent: 0}}

  @impl true
  def handle_cast({:deliver, mail}, state) do
    id = state.sent + 1
    send(Shop.Mailer.Relay, {:mail, self(), id, mail})
    await_relay(id)
    {:noreply, %{state | sent: id}}
  end

  defp await_relay(id) do
    receive do
      {:accepted, ^id} -> :ok
    after
      5_000 -> :timeout
    end
  end
end
