defmodule Shop.Labels do
  @moduledoc """
  Has parcels labelled: a carrier answers with a page to print, and the shop keeps
  its head, with the parcel's number and where it goes.

  This is the bug to find: a part of a binary keeps all of it. The state looks like
  a list of short texts, and each of them holds a page of 64 kB.
  """
  use GenServer

  @page 64 * 1024
  # Parts of up to 64 bytes are copied by newer emulators.
  @head 96
  @tick 25
  # So that a demo left running over night does not eat the machine.
  @most 6_000

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @impl true
  def init(nil) do
    Process.send_after(self(), :label, @tick)
    {:ok, %{labelled: 0, parcels: []}}
  end

  @impl true
  def handle_info(:label, state) do
    Process.send_after(self(), :label, @tick)
    number = state.labelled + 1
    <<head::binary-size(@head), _page::binary>> = carrier(number)
    {:noreply, %{state | labelled: number, parcels: Enum.take([head | state.parcels], @most)}}
  end

  # Stands for a carrier's answer.
  defp carrier(number) do
    head = "parcel #{number} to #{rem(number, 900)} Long Street, Farawaytown"
    String.pad_trailing(head, @head) <> String.duplicate("%PDF", div(@page, 4))
  end
end
