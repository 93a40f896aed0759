# Compiles the modules of a script without running its top level: what of that is not
# the definition of a module, an import, a require or an alias is left out.
# elixir exs_modules.exs SOURCE NAME OUT: NAME is what the script is called in its code.
defmodule Debughost.Script do
  def compile([source, name, out]) do
    forms =
      case Code.string_to_quoted!(File.read!(source), file: name) do
        {:__block__, _, forms} -> forms
        form -> [form]
      end

    kept = Enum.filter(forms, &match?({f, _, _} when f in [:defmodule, :defprotocol, :defimpl, :import, :require, :alias], &1))

    for {module, code} <- Code.compile_quoted({:__block__, [], kept}, name) do
      File.write!(Path.join(out, "#{module}.beam"), code)
    end
  end
end

if System.argv() != [], do: Debughost.Script.compile(System.argv())
