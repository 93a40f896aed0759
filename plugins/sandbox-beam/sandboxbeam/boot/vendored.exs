# Mix, for a project whose dependencies are those that lie in deps, wherever
# they came from, so that neither Hex nor git is asked for them. Those by a path are Mix's own.
defmodule Debughost.Vendored do
  @behaviour Mix.SCM

  def fetchable?, do: true
  def format(opts), do: "in " <> Path.relative_to_cwd(opts[:dest])
  def format_lock(_), do: nil

  def accepts_options(_, opts) do
    cond do
      opts[:path] || opts[:in_umbrella] -> nil
      part = opts[:sparse] || opts[:subdir] -> Keyword.update!(opts, :dest, &Path.join(&1, part))
      true -> opts
    end
  end

  def checked_out?(opts), do: File.dir?(opts[:dest])
  def checkout(_), do: Mix.raise("a sandbox takes no dependencies from elsewhere")
  def update(opts), do: checkout(opts)
  def lock_status(_), do: :ok
  def equal?(one, other), do: one[:dest] == other[:dest]
  def managers(_), do: []
end

# Compiles those in deps, and nothing else, in a project that has no more than these. What
# others of its parts depend on would be unknown then, and those in deps compiled as if
# that were not there: so there must be none.
defmodule Mix.Tasks.Debughost.Deps do
  use Mix.Task

  def run(_) do
    deps = Mix.Dep.cached()

    for dep <- deps, dep.scm != Debughost.Vendored, not Mix.Dep.available?(dep) do
      Mix.raise("#{dep.app} is not in deps")
    end

    case for dep <- deps, dep.scm == Debughost.Vendored, Mix.Dep.available?(dep), do: to_string(dep.app) do
      [] -> :ok
      apps -> Mix.Task.run("deps.compile", apps)
    end
  end
end

Mix.start()
Mix.SCM.prepend(Debughost.Vendored)
Mix.CLI.main()
