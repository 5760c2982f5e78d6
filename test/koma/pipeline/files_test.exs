defmodule Koma.Pipeline.FilesTest do
  use ExUnit.Case, async: false

  alias Koma.Options
  alias Koma.Pipeline.{Files, Graph, Record, Stage}

  setup do
    dir = Koma.TestFolder.new("pipelines")
    Options.put(Options.new!(data_dir: dir))
    :ok = Files.prepare()
    {:ok, dir: dir}
  end

  test "whatever byte of its file is damaged, a pipeline is read or set aside, and the others stay",
       %{dir: dir} do
    id = ended()
    path = Path.join([dir, "pipelines", id])
    bytes = File.read!(path)

    for at <- 0..(byte_size(bytes) - 1) do
      <<head::binary-size(at), byte, tail::binary>> = bytes
      File.write!(path, <<head::binary, Bitwise.bxor(byte, 16), tail::binary>>)
      assert Files.read(id) == :error or match?({:ok, %Record{id: ^id}, _events}, Files.read(id))
      File.write!(path, head)
      assert Files.read(id) == :error or match?({:ok, %Record{id: ^id}, _events}, Files.read(id))
    end
  end

  test "zeros and garbage at the end of a pipeline's file cost nothing, and are cut off", %{
    dir: dir
  } do
    for tail <- [<<0::64>>, <<0::32_768>>, "garbage", :rand.bytes(500)] do
      id = ended()
      path = Path.join([dir, "pipelines", id])
      whole = Files.read(id)
      File.write!(path, tail, [:append])
      assert Files.read(id) == whole
      file = Files.open(id)
      :ok = Files.taken_up(file)
      :ok = :file.close(file)
      assert {:ok, %Record{starts: 1}, _events} = Files.read(id)
    end
  end

  test "an event of a newer version, and an entry of one, are left alone", %{dir: dir} do
    id = ended()
    path = Path.join([dir, "pipelines", id])
    {:ok, record, events} = Files.read(id)
    event = Record.event(record, "of_a_newer_version", %{})
    newer = Enum.map([{:event, event}, {:of_a_newer_version, 1}], &Koma.Store.Journal.encode/1)
    File.write!(path, newer, [:append])
    assert Files.read(id) == {:ok, record, events}
  end

  test "files that cannot be read are set aside at the start, which goes on with the others", %{
    dir: dir
  } do
    sound = ended()
    damaged = for bytes <- ["", <<0::64>>, <<0::8_192>>, "garbage"], do: {Files.new_id(), bytes}
    for {id, bytes} <- damaged, do: File.write!(Path.join([dir, "pipelines", id]), bytes)
    supervisor = start_supervised!({Koma.Pipeline.Supervisor, Options.get()})
    Koma.CoreCase.eventually(fn -> Files.ids() == [sound] end)
    assert Process.alive?(supervisor)

    for {id, bytes} <- damaged do
      assert [aside] = Path.wildcard(Path.join([dir, "pipelines", id <> ".damaged-*"]))
      assert File.read!(aside) == bytes
    end
  end

  defp ended do
    stage = %Stage{name: "a", task: "toy.run", inputs: %{}, params: %{}}
    record = Record.new(Files.new_id(), nil, %Graph{stages: [stage], inputs: %{}})
    :ok = Files.accept(record)
    file = Files.open(record.id)

    events = [
      {"stage",
       %{"stage" => "a", "event" => "queued", "job" => "job_1", "payload" => %{"seq" => 1}}},
      {"completed", %{"outputs" => %{}}}
    ]

    Enum.reduce(events, record, fn {type, data}, record ->
      event = Record.event(record, type, data)
      :ok = Files.append(file, event)
      Record.apply(record, event)
    end)

    :ok = :file.close(file)
    record.id
  end
end
