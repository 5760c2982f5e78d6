defmodule Koma.MixProject do
  use Mix.Project

  # OTP applications that Debian ships only inside its rabbitmq-server package; `make setup`
  # unpacks them into vendor/otp. Where that folder is absent they come from hex instead.
  @vendored "vendor/otp"
  @vendored_apps ~w(cowboy ranch cowlib gun)a

  def project do
    use_vendored_apps()

    [
      app: :koma,
      version: "0.1.0",
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      elixirc_paths: elixirc_paths(Mix.env()),
      # Newer versions of Mix would drop the vendored applications from the code path.
      prune_code_paths: false,
      test_coverage: [summary: [threshold: 0]],
      aliases: aliases(),
      # Only the tests use PropEr and gun; Debian keeps eredis in a folder of another name.
      xref: [exclude: [:proper, :proper_types, :gun, :eredis]],
      deps: deps()
    ]
  end

  def application do
    [
      mod: {Koma.Application, []},
      extra_applications: [
        :logger,
        :eex,
        :crypto,
        :ssl,
        :jiffy,
        :eredis,
        :ranch,
        :cowboy
      ]
    ]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]

  defp aliases, do: [dialyzer: &dialyzer/1]

  defp deps do
    if vendored?() do
      []
    else
      [{:cowboy, "~> 2.8"}, {:jiffy, "~> 1.1"}, {:eredis, "~> 1.2"}] ++
        [{:gun, "~> 1.3", only: :test}, {:proper, "~> 1.4", only: :test}]
    end
  end

  defp vendored?, do: File.dir?(Path.join(__DIR__, @vendored))

  defp use_vendored_apps do
    for app <- @vendored_apps,
        ebin <- Path.wildcard(Path.join([__DIR__, @vendored, "#{app}-*", "ebin"])) do
      Code.append_path(ebin)
    end
  end

  # Debian's Dialyzer with a PLT kept in .cache/: no library needed.
  defp dialyzer(_args) do
    Mix.Task.run("compile")
    script = Path.join(__DIR__, "scripts/dialyzer.sh")
    env = [{"KOMA_EBIN", Mix.Project.compile_path()}, {"ELIXIR_EBIN", elixir_ebin()}]
    {_output, status} = System.cmd(script, [], into: IO.stream(), env: env)
    if status != 0, do: Mix.raise("Dialyzer found something (exit status #{status})")
  end

  defp elixir_ebin, do: :elixir |> :code.lib_dir() |> Path.join("ebin")
end
