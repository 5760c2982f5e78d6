defmodule Koma.ModelNode.OsProcessTest do
  use Koma.CoreCase, async: false

  doctest Koma.ModelNode.Environment

  # As the kernel gave it to the process.
  defp environment(node) do
    {:ok, text} = File.read("/proc/#{Koma.ModelNode.os_pid(node)}/environ")

    for variable <- String.split(text, "\0", trim: true), into: %{} do
      [name, value] = String.split(variable, "=", parts: 2)
      {name, value}
    end
  end

  defp put_env(variables) do
    before = Map.new(variables, fn {name, _value} -> {name, System.get_env(name)} end)
    on_exit(fn -> System.put_env(before) end)
    System.put_env(variables)
  end

  test "a model node computes with as many threads as its entry says", %{dir: dir} do
    start_core(dir, models: [toy(%{threads: 3})])
    assert %{"OMP_NUM_THREADS" => "3"} = environment("toy-1")
  end

  test "a model node gets what its libraries read, and none of the gateway's secrets or anybody else's",
       %{dir: dir} do
    given = %{
      "HF_HOME" => "/models",
      "HTTPS_PROXY" => "http://proxy:3128",
      "CUDA_VISIBLE_DEVICES" => "1",
      "PYTORCH_CUDA_ALLOC_CONF" => "expandable_segments:True",
      "LC_TIME" => "C"
    }

    secret =
      for name <- ~w(SECRET COOKIE REDIS_URL KEYS KEYS_FILE DATA TEST_NEW), do: "KOMA_" <> name

    secret = secret ++ ~w(ERL_FLAGS AWS_SECRET_ACCESS_KEY DATABASE_URL GITHUB_TOKEN SECRET path)
    put_env(Map.merge(given, Map.new(secret, &{&1, "do not tell"})))
    start_core(dir, models: [toy()])
    environment = environment("toy-1")
    assert Map.take(environment, Map.keys(given)) == given
    assert environment["PATH"] == System.get_env("PATH")
    assert Map.take(environment, secret) == %{}
    refute environment |> Map.values() |> Enum.any?(&(&1 =~ "do not tell"))
    # What the gateway gives, and what the shell that starts it sets by itself.
    own = ~w(PYTHONPATH PYTHONUNBUFFERED KOMA_PROVENANCE_SETTINGS PWD OLDPWD _ SHLVL)

    assert for(
             name <- Map.keys(environment) -- own,
             not Koma.ModelNode.Environment.allowed?(name),
             do: name
           ) == []
  end
end
