defmodule Koma.Access.KeysTest do
  # The policy is global to the server.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog
  import Koma.CoreCase, only: [key: 1, key: 2, secret: 1]

  alias Koma.{Access, Options}
  alias Koma.Access.Keys

  setup do
    dir = Koma.TestFolder.new("keys")
    {:ok, path: Path.join(dir, "keys"), dir: dir}
  end

  test "keys come from the file and from the variable", %{path: path} do
    File.write!(path, key("filed", "weight=2"))
    start(keys_file: path, keys: key("given"))
    assert {:ok, %{key: "filed"}} = Access.authenticate(secret("filed"))
    assert {:ok, %{key: "given"}} = Access.authenticate(secret("given"))
    assert Access.weights() == %{"filed" => 2, "given" => 1}
  end

  test "a changed file counts once it has been the same for one look", %{path: path} do
    File.write!(path, key("first"))
    start(keys_file: path)
    File.write!(path, key("second", "weight=2"))
    look()
    assert {:ok, _caller} = Access.authenticate(secret("first"))
    look()
    assert {:error, _unknown} = Access.authenticate(secret("first"))
    assert {:ok, _caller} = Access.authenticate(secret("second"))
  end

  test "a broken or missing file changes nothing and is told once", %{path: path} do
    File.write!(path, key("first"))
    start(keys_file: path)
    File.write!(path, "first sha256:broken")
    log = capture_log(fn -> for _ <- 1..4, do: look() end)
    assert [_before, told] = String.split(log, "API keys stay as they were")
    assert told =~ "#{path}: line 1"
    assert {:error, message} = Access.reload()
    assert message =~ "line 1"
    File.rm!(path)
    capture_log(fn -> assert {:error, _reason} = Access.reload() end)
    assert {:ok, _caller} = Access.authenticate(secret("first"))
  end

  test "a file from which the last key was taken lets nobody in", %{path: path} do
    File.write!(path, key("first"))
    start(keys_file: path)
    File.write!(path, "# nobody\n")
    assert Access.reload() == :ok
    assert {:error, %{code: "unauthorized"}} = Access.authenticate(secret("first"))
    assert {:error, %{code: "unauthorized"}} = Access.authenticate(nil)
  end

  test "the server does not start with keys that it cannot read", %{path: path, dir: dir} do
    for {options, words} <- [
          {[keys_file: path], "no such file"},
          {[keys_file: dir], "illegal operation on a directory"},
          {[keys: ""], "no API key is in"},
          {[keys: "a b"], "KOMA_KEYS: line 1"},
          {[keys: key("a") <> key("a")], "two lines"},
          {[bind: "0.0.0.0"], "without API keys"}
        ] do
      options = Options.new!([secret: "of a test"] ++ options)
      assert {:error, message} = Access.check(options)
      assert message =~ words
      assert {:error, reason} = start_supervised({Access, options})
      assert inspect(reason) =~ words
    end
  end

  test "it says at start who is let in, and warns of a file that others may change", %{path: path} do
    File.write!(path, key("first"))
    File.chmod!(path, 0o666)
    assert capture_log(fn -> start(keys_file: path) end) =~ "may be changed by other users"
    File.chmod!(path, 0o600)
    assert told(keys_file: path) =~ "API keys are asked for: 1 key"
    assert told(bind: "127.0.0.1") =~ "No API keys: whoever reaches 127.0.0.1"
    assert told(bind: "0.0.0.0", open: true) =~ "everybody may use it"
  end

  test "callers stay valid when the process that reads the keys is started again", %{path: path} do
    File.write!(path, key("first"))
    start(keys_file: path)
    {:ok, caller} = Access.authenticate(secret("first"))
    process = Process.whereis(Keys)
    monitor = Process.monitor(process)
    Process.exit(process, :kill)
    assert_receive {:DOWN, ^monitor, :process, ^process, :killed}
    Koma.CoreCase.eventually(fn -> Process.whereis(Keys) not in [nil, process] end)
    assert Access.valid?(caller)
  end

  defp told(options) do
    Logger.configure(level: :info)
    capture_log(fn -> start(options) end)
  after
    Logger.configure(level: :warning)
  end

  defp start(options) do
    _earlier = stop_supervised(Access)
    start_supervised!({Access, Options.new!([secret: "of a test"] ++ options)})
  end

  defp look do
    send(Keys, :look)
    :sys.get_state(Keys)
  end
end
