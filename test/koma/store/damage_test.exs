defmodule Koma.Store.DamageTest do
  use ExUnit.Case, async: false

  import Koma.StoreSteps

  alias Koma.Job.Record
  alias Koma.Options
  alias Koma.Store.{Disk, Journal, Jobs, Memory}

  @jobs 50
  @trials 60

  setup do
    dir = Koma.TestFolder.new("damage")
    Options.put(Options.new!(data_dir: dir))
    {:ok, dir: dir, journal: Path.join(dir, "journal")}
  end

  test "a flipped bit anywhere loses the record that it is in, and no other", c do
    bytes = write_journal(c)
    for at <- [1, 6, 40] ++ places(byte_size(bytes)), do: check(c, bytes, flip(bytes, at), [at])
  end

  test "a range of zeros anywhere loses the records that it touches, and no other", c do
    bytes = write_journal(c)

    for at <- places(byte_size(bytes)) do
      length = min(:rand.uniform(5_000), byte_size(bytes) - at)
      <<head::binary-size(at), _::binary-size(length), tail::binary>> = bytes
      check(c, bytes, head <> :binary.copy(<<0>>, length) <> tail, at..(at + length - 1))
    end
  end

  test "garbage anywhere loses the records that it touches, and no other", c do
    bytes = write_journal(c)

    for at <- places(byte_size(bytes)) do
      length = min(:rand.uniform(600), byte_size(bytes) - at)
      <<head::binary-size(at), _::binary-size(length), tail::binary>> = bytes
      check(c, bytes, head <> :rand.bytes(length) <> tail, at..(at + length - 1))
    end
  end

  test "a journal that is cut off anywhere keeps what was written before", c do
    bytes = write_journal(c)

    for at <- [0, 1, 7, 8, 9, 11 | places(byte_size(bytes))] do
      check(c, bytes, binary_part(bytes, 0, at), at..(byte_size(bytes) - 1)//1)
      assert asides(c) == []
    end
  end

  test "zeros at the end, as a power cut leaves them, and any garbage there cost nothing", c do
    bytes = write_journal(c)

    for zeros <- [1, 7, 8, 9, 4096, 100_000] do
      check(c, bytes, bytes <> :binary.copy(<<0>>, zeros), [])
      assert asides(c) == []
    end

    for garbage <- [1, 8, 100, 5_000], do: check(c, bytes, bytes <> :rand.bytes(garbage), [])
  end

  test "a damaged journal is kept aside once, and the next one follows whole records", c do
    bytes = write_journal(c)
    damaged = flip(bytes, div(byte_size(bytes), 2))
    check(c, bytes, damaged, [div(byte_size(bytes), 2)])
    assert [aside] = asides(c)
    assert File.read!(aside) == damaged
    {_count, report} = Journal.fold(File.read!(c.journal), 0, fn _entry, count -> count + 1 end)
    assert %{damaged: [], torn: 0} = report
    start(c)
    assert Jobs.accept(record("job_new")) == :ok
    stop()
    start(c)
    assert {:ok, _} = Jobs.fetch("job_new")
    assert [^aside] = asides(c)
  end

  test "what a client wrote into a job is not taken for records, though its job is torn", c do
    start(c)
    run(accept("job_kept"), ~w(queued started completed))
    forged = IO.iodata_to_binary(Journal.encode({:forgotten, ["job_kept"]}))
    params = %{"prompt" => String.duplicate(forged, 10)}
    :ok = Jobs.accept(%{record("job_torn") | params: params})
    stop()
    bytes = File.read!(c.journal)
    File.write!(c.journal, binary_part(bytes, 0, byte_size(bytes) - 40))
    start(c)
    assert {:ok, %{state: "completed"}} = Jobs.fetch("job_kept")
    assert Jobs.fetch("job_torn") == :error
  end

  test "an entry of a newer version is carried along, through every compaction", c do
    entry = {:priority, "job_1", %{"of" => "a newer version"}}

    newer = [
      Journal.encode(entry),
      Journal.encode(:paused),
      Journal.encode({:accepted, %{id: 7}})
    ]

    File.mkdir_p!(c.dir)
    File.write!(c.journal, [Journal.encode({:accepted, record("job_1")}) | newer])

    for _ <- 1..2 do
      start(c)
      assert {:ok, _} = Jobs.fetch("job_1")
      stop()
    end

    {entries, _report} = Journal.fold(File.read!(c.journal), [], &[&1 | &2])
    assert Enum.take(entries, 3) == [{:accepted, %{id: 7}}, :paused, entry]
  end

  test "a journal that cannot be read at all refuses the start in words", c do
    File.mkdir_p!(c.journal)
    assert {:error, {reason, _child}} = start_supervised(spec(c))
    assert reason =~ "#{c.journal} cannot be read"
  end

  # Starts on the damaged bytes; `touched` are the offsets that are not as they were written.
  defp check(c, bytes, damaged, touched) do
    File.write!(c.journal, damaged)
    start(c)
    lost = lost(bytes, touched)

    for {id, {record, events}} <- written(bytes) do
      found = Jobs.fetch(id)

      cond do
        :accepted in Map.get(lost, id, []) ->
          :ok

        not is_map_key(lost, id) ->
          assert {found, Memory.events(id, 0)} == {{:ok, record}, events}

        true ->
          assert {:ok, %Record{}} = found
      end

      kept = Memory.events(id, 0)
      assert Enum.map(kept, & &1.seq) == Enum.to_list(1..length(kept)//1)
      gone = Map.get(lost, id, [])
      unless :accepted in gone, do: assert(Enum.reject(events, &(&1.seq in gone)) -- kept == [])
    end

    stop()
  end

  # The acceptances and numbers of events of which a byte was touched, by job.
  defp lost(bytes, touched) do
    for {from, to, entry} <- frames(bytes, 0),
        touched?(touched, from, to - 1),
        reduce: %{} do
      lost ->
        case entry do
          {:accepted, record} -> Map.update(lost, record.id, [:accepted], &[:accepted | &1])
          {:job, record, _events} -> Map.update(lost, record.id, [:accepted], &[:accepted | &1])
          {:event, id, event} -> Map.update(lost, id, [event.seq], &[event.seq | &1])
        end
    end
  end

  defp touched?(%Range{} = range, from, last), do: not Range.disjoint?(range, from..last)
  defp touched?(offsets, from, last), do: Enum.any?(offsets, &(&1 in from..last))

  defp frames(bytes, offset) when offset == byte_size(bytes), do: []

  defp frames(bytes, offset) do
    <<_::binary-size(offset), size::32, _crc::32, term::binary-size(size), _::binary>> = bytes
    next = offset + 8 + size
    [{offset, next, :erlang.binary_to_term(term)} | frames(bytes, next)]
  end

  defp written(bytes) do
    for {_from, _to, entry} <- frames(bytes, 0), reduce: %{} do
      jobs ->
        case entry do
          {:accepted, record} -> Map.put(jobs, record.id, {record, []})
          {:job, record, events} -> Map.put(jobs, record.id, {record, events})
          {:event, id, event} -> Map.update!(jobs, id, &happen(&1, event))
        end
    end
  end

  defp happen({record, events}, event), do: {Record.apply(record, event), events ++ [event]}

  # Half of the jobs in one record each, as a start leaves them, half as they happened since.
  defp write_journal(c) do
    start(c)
    for n <- 1..div(@jobs, 2), do: story(n)
    stop()
    start(c)
    for n <- (div(@jobs, 2) + 1)..@jobs, do: story(n)
    stop()
    File.read!(c.journal)
  end

  defp story(n) do
    types = ~w(queued queued started progress progress retrying queued started progress completed)
    run(accept("job_#{n}"), Enum.take(types, rem(n, length(types) + 1)))
  end

  defp places(size), do: for(_ <- 1..@trials, do: :rand.uniform(size) - 1)

  defp flip(bytes, at) do
    <<head::binary-size(at), byte, tail::binary>> = bytes
    <<head::binary, Bitwise.bxor(byte, Bitwise.bsl(1, :rand.uniform(8) - 1)), tail::binary>>
  end

  defp asides(c), do: Path.wildcard(c.journal <> ".damaged-*")

  defp start(c), do: start_supervised!(spec(c), restart: :temporary)
  defp spec(c), do: {Disk, dir: c.dir, retention_jobs: 1_000, journal_bytes: 1_000_000}
  defp stop, do: stop_supervised!(Disk)

  defp accept(id) do
    record = record(id)
    assert Jobs.accept(record) == :ok
    record
  end

  defp record(id) do
    params = %{"prompt" => String.duplicate("x", :rand.uniform(300))}
    %Record{id: id, task: "toy.run", model: "toy", created_at: 1, params: params}
  end
end
