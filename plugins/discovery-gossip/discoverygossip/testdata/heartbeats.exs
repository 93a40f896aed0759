# Heartbeats as nodes with libcluster's strategy Gossip send and hear them: the
# same packets (see docs/discovery-gossip.md), from a process of its own.
defmodule Heartbeats do
  use GenServer

  def init(o) do
    {:ok, socket} = :gen_udp.open(o.port, [:binary, active: true, reuseaddr: true, broadcast: true] ++ reuse_port() ++ group(o))
    send(self(), :beat)
    {:ok, Map.put(o, :socket, socket)}
  end

  defp group(%{group: nil}), do: []
  defp group(%{group: group, interface: i}),
    do: [multicast_if: i, multicast_ttl: 1, multicast_loop: true, add_membership: {group, i}]

  # On Linux: SOL_SOCKET, SO_REUSEPORT, 1.
  defp reuse_port, do: [{:raw, 1, 15, <<1::native-32>>}]

  def handle_info(:beat, o) do
    packet = seal("heartbeat::" <> :erlang.term_to_binary(%{node: node()}), o.secret)
    :ok = :gen_udp.send(o.socket, o.to, o.port, packet)
    Process.send_after(self(), :beat, :rand.uniform(300))
    {:noreply, o}
  end

  def handle_info({:udp, _, _, _, packet}, o) do
    with "heartbeat::" <> term <- open(packet, o.secret),
         %{node: name} when name != node() <- :erlang.binary_to_term(term),
         do: :net_kernel.connect_node(name)

    {:noreply, o}
  end

  defp seal(text, nil), do: text

  defp seal(text, secret) do
    iv = :crypto.strong_rand_bytes(16)
    padding = 16 - rem(byte_size(text), 16)
    padded = text <> :binary.copy(<<padding>>, padding)
    iv <> :crypto.crypto_one_time(:aes_256_cbc, :crypto.hash(:sha256, secret), iv, padded, true)
  end

  defp open(packet, nil), do: packet

  defp open(<<iv::binary-16, sealed::binary>>, secret) do
    padded = :crypto.crypto_one_time(:aes_256_cbc, :crypto.hash(:sha256, secret), iv, sealed, false)
    binary_part(padded, 0, byte_size(padded) - :binary.last(padded))
  end

  defp open(_, _), do: nil
end
