defmodule Billing.Invoice do
  @moduledoc "Prints an invoice: a short-lived task for each order."

  def print(number, cents) do
    body = "Invoice #{number}: #{div(cents, 100)}.#{rem(cents, 100)}"
    Process.sleep(20)
    :crypto.hash(:sha256, body)
  end
end
