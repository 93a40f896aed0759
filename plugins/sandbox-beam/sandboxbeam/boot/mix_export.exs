# Run by `mix run --no-start` in a project that has been compiled: writes which
# applications are to be started, and their environment as it is after the
# project's config, for a node that has no Mix.
out = System.fetch_env!("DEBUGHOST_EXPORT")
project = Mix.Project.config()

apps =
  case Mix.Project.apps_paths() do
    nil -> [project[:app]]
    umbrella -> Map.keys(umbrella)
  end

configured =
  if File.exists?("config/config.exs") do
    "config/config.exs" |> Config.Reader.read!(env: Mix.env(), target: Mix.target()) |> Keyword.keys()
  else
    []
  end

# What cannot be written as a term, such as a function of the config's own, stays out.
writable? = fn pair ->
  text = :io_lib.format(~c"~tp.", [pair])

  with {:ok, tokens, _} <- :erl_scan.string(:lists.flatten(text)),
       {:ok, _} <- :erl_parse.parse_term(tokens) do
    true
  else
    _ -> false
  end
end

env =
  for app <- Enum.uniq(apps ++ configured ++ Mix.Project.deps_apps()),
      pairs = Enum.filter(Application.get_all_env(app), writable?),
      pairs != [],
      do: {app, pairs}

write = fn name, term ->
  File.write!(Path.join(out, name), :io_lib.format(~c"%% -*- coding: utf-8 -*-~n~tp.~n", [term]) |> IO.chardata_to_string())
end

write.("sys.config", env)
write.("apps", apps)
