defmodule Koma.Store.OwnersTest do
  use Koma.CoreCase, async: false

  alias Koma.Store.{Artifacts, Collector, Jobs, Owners}

  @ended %{"steps" => 1}

  describe "uploads" do
    test "only who uploaded an artifact sees it; for others it is as if it were not there",
         %{dir: dir} do
      start_core(dir, wait: false, models: [])
      id = upload!("some bytes", "a")
      absent = String.duplicate("0", 64)
      assert {:ok, %{id: ^id}} = Artifacts.renew(id, "a")
      assert {:ok, %{id: ^id}} = Artifacts.renew(id, nil)
      assert {:error, foreign} = Artifacts.renew(id, "b")
      assert {:error, missing} = Artifacts.renew(absent, "b")

      assert %{foreign | value: absent, message: String.replace(foreign.message, id, absent)} ==
               missing
    end

    test "two keys that upload the same bytes each see them, and learn nothing of each other",
         %{dir: dir} do
      start_core(dir, wait: false, models: [])
      assert {:ok, %{id: id}, :created} = upload("same", "a")
      assert {:ok, %{id: ^id}, :created} = upload("same", "b")
      assert {:ok, %{id: ^id}, :existed} = upload("same", "a")
      for key <- ["a", "b"], do: assert({:ok, _artifact} = Artifacts.renew(id, key))
      assert {:error, _absent} = Artifacts.renew(id, "ab")
      assert Owners.bytes("a") == 4 and Owners.bytes("b") == 4
    end

    test "who owns what, and how much, is the same after a restart", %{dir: dir} do
      start_core(dir, wait: false, models: [])
      id = upload!("some bytes", "a")
      upload!("more", "a")
      stop_core()
      start_core(dir, wait: false, models: [])
      assert {:ok, _artifact} = Artifacts.renew(id, "a")
      assert {:error, _absent} = Artifacts.renew(id, "b")
      assert Owners.bytes("a") == 14
    end

    test "an artifact that is collected takes its owners along, also from what they have stored",
         %{dir: dir} do
      start_core(dir, wait: false, models: [], grace_ms: 0)
      id = upload!("some bytes", "a")
      for beside <- ["", ".type"], do: File.touch!(Artifacts.path(id) <> beside, 1_000_000)
      assert %{files: 1} = Collector.collect()
      assert Owners.bytes("a") == 0
      assert id == upload!("some bytes", "b")
      assert {:error, _absent} = Artifacts.renew(id, "a")
    end

    test "owners whose artifact is gone are swept", %{dir: dir} do
      start_core(dir, wait: false, models: [], grace_ms: 0)
      id = upload!("some bytes", "a")
      File.rm!(Artifacts.path(id))
      for beside <- [".type", ".keys"], do: File.touch!(Artifacts.path(id) <> beside, 1_000_000)
      Collector.collect()
      assert File.ls!(Path.dirname(Artifacts.path(id))) == []
    end
  end

  describe "jobs" do
    test "a key sees what its jobs made and were given, until they are forgotten", %{dir: dir} do
      start_core(dir)
      job = run!("a", %{"steps" => 1, "output_bytes" => 100})
      [%{"artifact" => output}] = job["outputs"]
      assert {:ok, _artifact} = Artifacts.renew(output, "a")
      assert {:error, _absent} = Artifacts.renew(output, "b")
      assert Owners.bytes("a") == 0

      stop_core()
      start_core(dir)
      assert {:ok, _artifact} = Artifacts.renew(output, "a")
      assert {:error, _absent} = Artifacts.renew(output, "b")
      :ok = Jobs.forget([job["id"]])
      assert {:error, _absent} = Artifacts.renew(output, "a")
    end

    test "an input of another key is refused as one that is not there", %{dir: dir} do
      start_core(dir)
      id = upload!("some bytes", "a")
      assert {:ok, _job} = submit("a", @ended, %{"file" => id})
      assert {:error, foreign} = submit("b", @ended, %{"file" => id})
      absent = String.duplicate("0", 64)
      assert {:error, missing} = submit("b", @ended, %{"file" => absent})
      assert foreign.code == "artifact_not_found" and foreign.field == "inputs.file"

      assert %{foreign | value: absent, message: String.replace(foreign.message, id, absent)} ==
               missing
    end

    test "keys that share a result each see its artifacts", %{dir: dir} do
      start_core(dir, share_results: true)
      params = %{"steps" => 1, "output_bytes" => 100, "seed" => 7}
      [%{"artifact" => output}] = run!("a", params)["outputs"]
      assert {:error, _absent} = Artifacts.renew(output, "b")
      # The job has told its end before its result is one for others.
      eventually(fn -> Koma.Cache.size(5_000).results == 1 end)
      assert %{"cached" => true} = run!("b", params)
      assert {:ok, _artifact} = Artifacts.renew(output, "b")
      assert {:error, _absent} = Artifacts.renew(output, "c")
    end
  end

  test "where jobs are in a Redis, a key sees what its jobs made before the gateway was started again",
       %{dir: dir} do
    server = Koma.RedisServer.start(Path.join(dir, "redis"))
    options = [redis: Koma.RedisServer.url(server), lease_ms: 1_000]
    start_core(dir, options)
    [%{"artifact" => output}] = run!("a", %{"steps" => 1, "output_bytes" => 100})["outputs"]
    stop_core()
    start_core(dir, options)
    assert {:ok, _artifact} = Artifacts.renew(output, "a")
    assert {:error, %{code: "artifact_not_found"}} = Artifacts.renew(output, "b")
    stop_core()
    Koma.RedisServer.kill(server)
  end

  defp upload(bytes, key) do
    {:ok, writer} = Artifacts.open("text/plain", key)
    {:ok, writer} = Artifacts.write(writer, bytes)
    Artifacts.commit(writer, nil)
  end

  defp upload!(bytes, key) do
    {:ok, artifact, _status} = upload(bytes, key)
    artifact.id
  end

  defp submit(key, params, inputs \\ %{}) do
    Koma.submit(%{"task" => "toy.run", "params" => params, "inputs" => inputs}, %Caller{key: key})
  end

  defp run!(key, params) do
    {:ok, %{"id" => id}} = submit(key, params)
    caller = %Caller{key: key}
    eventually(fn -> match?({:ok, %{"state" => "completed"}}, Koma.job(id, caller)) end)
    {:ok, job} = Koma.job(id, caller)
    job
  end
end
