defmodule Koma.Soak.DamageStormTest do
  use Koma.CoreCase, async: false

  @moduletag :soak
  @moduletag timeout: 1_200_000

  alias Koma.{OtherBeam, Storm}
  alias Koma.Store.Lock

  @jobs 40
  # Who kills from outside can hit one job again and again; that must not count as its poison.
  @options [
    max_attempts: 1_000,
    models: [%{name: "toy", family: "toy", checkpoint: "toy", slots: 8}]
  ]

  test "SIGKILLs at any moment, second starts, and a flipped bit in the journal after each: what was not touched ends once",
       %{dir: dir} do
    rounds = Storm.scaled(20)

    {ids, gone} =
      Enum.reduce(1..rounds, {[], MapSet.new()}, fn _nth, told -> round(dir, told) end)

    start_core(dir, @options)

    for id <- ids, id not in gone do
      events = await_end(id, 300_000)
      assert %{type: "completed"} = List.last(events)
      assert Enum.map(events, & &1.seq) == Enum.to_list(1..length(events))
    end
  end

  defp round(dir, {ids, gone}) do
    script = """
    ids = Koma.OtherBeam.submit(#{@jobs}, %{"steps" => 5, "step_ms" => 5})
    Process.sleep(:rand.uniform(300))
    IO.puts("IDS " <> Enum.join(ids, " "))
    """

    beam = OtherBeam.start(dir, @options, script)
    new = OtherBeam.ids(beam)
    assert {:error, sentence} = Lock.run(dir, fn -> :never end)
    assert sentence =~ "in use by another Koma server"
    OtherBeam.kill(beam)
    journal = Path.join(dir, "jobs/journal")
    bytes = File.read!(journal)
    at = :rand.uniform(byte_size(bytes)) - 1
    <<head::binary-size(at), byte, tail::binary>> = bytes
    File.write!(journal, [head, Bitwise.bxor(byte, Bitwise.bsl(1, :rand.uniform(8) - 1)), tail])
    {ids ++ new, MapSet.union(gone, MapSet.new(touched(bytes, 0, at)))}
  end

  # The job whose acceptance has this byte, if it is one's; the last record may be half written.
  defp touched(bytes, offset, at) do
    case bytes do
      <<_::binary-size(offset), size::32, _crc::32, _term::binary-size(size), _::binary>>
      when at >= offset + 8 + size ->
        touched(bytes, offset + 8 + size, at)

      <<_::binary-size(offset), size::32, _crc::32, term::binary-size(size), _::binary>> ->
        term |> :erlang.binary_to_term() |> job()

      _torn ->
        []
    end
  end

  defp job({:accepted, record}), do: [record.id]
  defp job({:job, record, _events}), do: [record.id]
  defp job(_event), do: []
end
