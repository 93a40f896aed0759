# A compiler that stays: for each file `todo` in its directory it compiles once more,
# prints the text of the file with what came of it, on a line of its own in both of its
# outputs, and writes that into `done`. The variables DEBUGHOST_WARM (the directory),
# DEBUGHOST_KIND (mix, script, module) and DEBUGHOST_MAIN (file, and what it is called)
# say what.
defmodule Debughost.Warm do
  def loop(dir, kind) do
    todo = Path.join(dir, "todo")

    case File.read(todo) do
      {:ok, token} ->
        File.rm!(todo)
        result = alone(fn -> compile(kind, dir) end)
        for device <- [:stdio, :stderr], do: IO.puts(device, "\n#{token} #{result}")
        File.write!(Path.join(dir, "done.new"), "#{token} #{result}")
        File.rename!(Path.join(dir, "done.new"), Path.join(dir, "done"))

      {:error, _} ->
        Process.sleep(10)
    end

    loop(dir, kind)
  end

  defp alone(fun) do
    {pid, mon} = spawn_monitor(fn -> exit({:result, attempt(fun)}) end)

    receive do
      {:DOWN, ^mon, _, ^pid, {:result, result}} -> result
      {:DOWN, ^mon, _, ^pid, reason} -> IO.puts(:stderr, inspect(reason)) && "error"
    end
  end

  defp attempt(fun) do
    if fun.() == :error, do: "error", else: "ok"
  catch
    kind, reason ->
      IO.puts(:stderr, Exception.format(kind, reason, __STACKTRACE__))
      "error"
  end

  defp compile("mix", dir) do
    Mix.Task.clear()

    case Mix.Task.run("compile", ["--return-errors"]) do
      {:error, _} -> :error
      _ -> Code.eval_file(Path.join(dir, "export.exs"))
    end
  end

  defp compile("script", dir) do
    [file, name] = main()
    Debughost.Script.compile([file, name, empty(dir)])
  end

  defp compile("module", dir) do
    [file, _] = main()
    :compile.file(to_charlist(file), [:debug_info, :report, outdir: to_charlist(empty(dir))])
  end

  defp main, do: String.split(System.fetch_env!("DEBUGHOST_MAIN"), "\n")

  defp empty(dir) do
    ebin = Path.join(dir, "out/lib/main/ebin")
    File.rm_rf!(ebin)
    File.mkdir_p!(ebin)
    ebin
  end
end

Code.put_compiler_option(:ignore_module_conflict, true)
dir = System.fetch_env!("DEBUGHOST_WARM")
Code.require_file(Path.join(dir, "exs_modules.exs"))
File.write!(Path.join(dir, "up"), "")
Debughost.Warm.loop(dir, System.fetch_env!("DEBUGHOST_KIND"))
