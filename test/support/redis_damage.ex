defmodule Koma.RedisDamage do
  @moduledoc "What can be wrong with the keys of a Redis that holds jobs, done to a real one."

  alias Koma.Job.Record
  alias Koma.RedisServer

  @typedoc "What it is called, and what does it, given the id of a job."
  @type t :: {String.t(), (ask, String.t() -> term)}
  @type ask :: ([term] -> term)

  @doc "What makes the record of a job unusable."
  @spec hash_damages() :: [t]
  def hash_damages do
    record = fn blob -> fn ask, id -> ask.(["HSET", job(id), "record", blob.(ask, id)]) end end

    change = fn change ->
      record.(fn ask, id -> ask |> stored(id) |> change.() |> encode() end)
    end

    [
      {"a string for the hash", fn ask, id -> ask.(["SET", job(id), "x"]) end},
      {"a list for the hash",
       fn ask, id -> ask.(["DEL", job(id)]) && ask.(["RPUSH", job(id), "x"]) end},
      {"a bad seq", fn ask, id -> ask.(["HSET", job(id), "seq", "x"]) end},
      {"a negative seq", fn ask, id -> ask.(["HSET", job(id), "seq", "-1"]) end},
      {"a huge seq", fn ask, id -> ask.(["HSET", job(id), "seq", String.duplicate("9", 30)]) end},
      {"a seq of a trillion", fn ask, id -> ask.(["HSET", job(id), "seq", "1000000000000"]) end},
      {"a bad epoch", fn ask, id -> ask.(["HSET", job(id), "epoch", "one"]) end},
      {"no record", fn ask, id -> ask.(["HDEL", job(id), "record"]) end},
      {"no seq", fn ask, id -> ask.(["HDEL", job(id), "seq"]) end},
      {"an empty record", record.(fn _ask, _id -> "" end)},
      {"a record cut off",
       record.(fn ask, id -> ask |> stored(id) |> encode() |> binary_part(0, 60) end)},
      {"no term", record.(fn _ask, _id -> :crypto.strong_rand_bytes(200) end)},
      {"JSON", record.(fn _ask, _id -> ~s({"id": 1}) end)},
      {"a record of another version", change.(&{:v99, Map.from_struct(&1)})},
      {"an unknown state", change.(&%{&1 | state: "dreaming"})},
      {"another id", change.(&%{&1 | id: "job_another"})},
      {"parameters of another type", change.(&%{&1 | params: nil})},
      {"an end that is none", change.(&%{&1 | state: "completed"})}
    ]
  end

  @doc "After these the job can be read and runs; only what was told before is lost."
  @spec event_damages() :: [t]
  def event_damages do
    events = &("koma:events:" <> &1)

    [
      {"no events", fn ask, id -> ask.(["DEL", events.(id)]) end},
      {"a string for the events", fn ask, id -> ask.(["SET", events.(id), "x"]) end},
      {"an event that is no term", fn ask, id -> ask.(["LSET", events.(id), "0", "x"]) end},
      {"one event too many", fn ask, id -> ask.(["RPUSH", events.(id), "x"]) end},
      {"an event of another number",
       fn ask, id ->
         ask.([
           "LSET",
           events.(id),
           "0",
           encode(%Koma.Job.Event{seq: 7, type: "queued", at: 1, data: %{}})
         ])
       end}
    ]
  end

  defp job(id), do: "koma:job:" <> id
  defp encode(term), do: :erlang.term_to_binary(term)

  # Under load it may be gone already, or damaged by the one before.
  defp stored(ask, id) do
    %Record{} = ask.(["HGET", job(id), "record"]) |> :erlang.binary_to_term()
  rescue
    _gone -> %Record{id: id, task: "toy.run", model: "toy", created_at: 1}
  end

  @doc "Asks a Redis; a damage may come too late, or after another one: that is an error, and no matter."
  @spec ask(%{server: RedisServer.t()}, [term]) :: term
  def ask(c, command) do
    {:ok, client} = :eredis.start_link('127.0.0.1', c.server.port, 0, '', :no_reconnect, 1_000)
    {_ok_or_error, answer} = :eredis.q(client, command)
    :ok = :eredis.stop(client)
    answer
  end

  @doc "The ids of live jobs that have events."
  @spec live(RedisServer.t()) :: [String.t()]
  def live(server),
    do:
      RedisServer.ask!(server, ["KEYS", "koma:events:*"])
      |> Enum.map(&String.replace(&1, "koma:events:", ""))

  @doc "Deletes up to four keys of these patterns."
  @spec lose(RedisServer.t(), [String.t()]) :: term
  def lose(server, patterns) do
    keys = Enum.flat_map(patterns, &RedisServer.ask!(server, ["KEYS", &1]))
    if keys != [], do: RedisServer.ask!(server, ["DEL" | Enum.take_random(keys, 4)])
  end
end
