defmodule Shop.Fault do
  @moduledoc "Which of its faults the shop has in this run: one, so that it can be told from the others."

  @doc "mailbox, leak, loop or slow."
  def name, do: System.get_env("DEMO_FAULT", "mailbox")

  @doc "What the shop runs for the fault, beside what it always does."
  def children do
    case name() do
      "mailbox" -> []
      "leak" -> [Shop.Labels]
      "loop" -> [Shop.Stock.Supervisor]
      "slow" -> [Shop.Search]
    end
  end
end
