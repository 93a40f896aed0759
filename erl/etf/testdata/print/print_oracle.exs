# Answers how Elixir itself evaluates and prints terms. Reads one request a
# line, "op base64", and answers with a line "answer base64…". What the compiler prints
# beside that is no answer.
defmodule Point do
  defstruct [:x]
end

defmodule PrintOracle do
  @whole [limit: :infinity, printable_limit: :infinity, width: :infinity]
  @raw [charlists: :as_lists, binaries: :as_binaries] ++ @whole

  def main do
    case IO.read(:stdio, :line) do
      :eof ->
        :ok

      line ->
        [op, arg] = String.split(line)

        answer =
          try do
            answer(op, Base.decode64!(arg))
          rescue
            e -> ["error", Exception.format(:error, e, __STACKTRACE__)]
          end

        IO.puts(Enum.join(["answer" | Enum.map(answer, &Base.encode64/1)], " "))
        main()
    end
  end

  defp answer("eval", text) do
    {term, _} = Code.eval_string(text)
    [:erlang.term_to_binary(term) | print(term)]
  end

  defp answer("print", bin) do
    term = :erlang.binary_to_term(bin)
    [:erlang.term_to_binary(term) | print(term)]
  end

  defp answer("read", text) do
    {term, _} = Code.eval_string(text)
    [:erlang.term_to_binary(term)]
  end

  defp print(term), do: [inspect(term, @whole), inspect(term, @raw)]
end

PrintOracle.main()
