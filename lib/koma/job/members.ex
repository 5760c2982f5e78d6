defmodule Koma.Job.Members do
  @moduledoc """
  The live jobs of one run: usually one, more when equal requests joined it. Each has its own
  record, events, followers, deadline and end; what happens to the run happens to all of them.
  Used by the process of the run, which has them registered under their ids.

  Everything that happens is an event: checked against the lifecycle table, stored, then told, in
  this order, so that nobody ever saw something that is not stored.
  """

  alias Koma.{Options, Store, Telemetry}
  alias Koma.Job.{Audience, Event, Followers, Lifecycle, Preview, Record, Retry}

  defmodule Member do
    @moduledoc "One live job of a run, and who wants it."
    @enforce_keys [:record, :audience]
    defstruct [:record, :audience, noted: []]

    @typedoc "`noted`: what happened and is not stored yet, the latest first."
    @type t :: %__MODULE__{
            record: Record.t(),
            audience: Audience.t(),
            noted: [{Record.t(), Event.t()}]
          }
  end

  @type id :: String.t()
  @type t :: %{id => Member.t()}

  @doc "With one more job; the process of the run gets `{:deadline, id}` when its time is up."
  @spec add(t, Record.t(), submitter :: pid | nil) :: t
  def add(members, %Record{id: id} = record, submitter) do
    :ok = start_deadline(record)
    tell_untold(id)
    watched? = record.priority == "interactive" and record.on_disconnect == "cancel"
    audience = Audience.new(watched?, Options.get().absence_ms, submitter, Followers.pids(id))
    Map.put(members, id, %Member{record: record, audience: audience})
  end

  @doc "As `add/3`, to a run that is under way: the job is told what has happened, as it counts."
  @spec join(t, Record.t(), pid | nil, happened :: [{Lifecycle.event(), map}]) :: t
  def join(members, %Record{id: id} = record, submitter, happened) do
    Telemetry.execute([:koma, :cache, :join], %{count: 1}, %{})
    lost = if record.state == "running", do: [{"retrying", interrupted(record)}], else: []

    members = add(members, record, submitter)
    note = fn {type, data}, member -> note_one(member, type, data) end
    Map.update!(members, id, &flush_one(Enum.reduce(lost ++ happened, &1, note)))
  end

  # It has the losses of the run from now on, so this one counts for nothing.
  defp interrupted(record), do: Retry.told(record.attempt, Retry.stopped())

  @doc "Something happens to all of them. It is stored and told with the next `flush/1`, at the latest."
  @spec note(t, Lifecycle.event(), map) :: t
  def note(members, type, data) do
    Map.new(members, fn {id, member} -> {id, note_one(member, type, data)} end)
  end

  defp note_one(%Member{record: record, noted: noted} = member, type, data) do
    event = Record.event(record, type, renumber(data, type, record))
    record = Record.apply(record, event)
    %{member | record: record, noted: [{record, event} | noted]}
  end

  @doc "Stores what was noted, all of a job at once, and tells it."
  @spec flush(t) :: t
  def flush(members) do
    Map.new(members, fn {id, member} -> {id, flush_one(member)} end)
  end

  defp flush_one(%Member{noted: []} = member), do: member

  defp flush_one(%Member{noted: noted} = member) do
    store(Enum.reverse(noted))
    %{member | noted: []}
  end

  @doc "The end of the jobs with these ids: their last event; they are members no longer."
  @spec finish(t, [id], Lifecycle.event(), map, code :: String.t() | nil) :: t
  def finish(members, ids, type, data, code) do
    for id <- ids, do: finish(members[id], type, data, code)
    Map.drop(members, ids)
  end

  @doc "Tells the telemetry of each of them."
  @spec measure(t, Telemetry.event(), map, map) :: :ok
  def measure(members, event, measurements, metadata) do
    for {_id, %{record: record}} <- members,
        do: Telemetry.execute(event, measurements, Map.merge(about(record), metadata))

    :ok
  end

  @doc "Shows everybody a preview."
  @spec show(t, Preview.t()) :: :ok
  def show(members, preview), do: Enum.each(Map.keys(members), &Followers.show(&1, preview))

  @doc "Whether somebody follows one of them."
  @spec followed?(t) :: boolean
  def followed?(members), do: Enum.any?(Map.keys(members), &Followers.any?/1)

  @doc "A process follows one of them, or follows it no longer (`Koma.Job.Audience`)."
  @spec update_audience(t, id, (Audience.t() -> Audience.t())) :: t
  def update_audience(members, id, change) when is_map_key(members, id) do
    Map.update!(members, id, &%{&1 | audience: change.(&1.audience)})
  end

  def update_audience(members, _ended, _change), do: members

  @doc "A monitored process died; nothing changes if it followed none of them."
  @spec down(t, reference) :: t
  def down(members, ref) do
    Enum.find_value(members, members, fn {id, member} ->
      case Audience.down(member.audience, ref) do
        {:ok, audience} -> Map.put(members, id, %{member | audience: audience})
        :unknown -> nil
      end
    end)
  end

  @doc "The job that this timer of absence is about, if it counts; else nil."
  @spec absent(t, reference) :: id | nil
  def absent(members, timer) do
    Enum.find_value(members, fn {id, member} ->
      if Audience.absent?(member.audience, timer), do: id
    end)
  end

  defp finish(member, type, data, code) do
    %{record: record} = member |> note_one(type, data) |> flush_one()
    duration = System.system_time(:millisecond) - record.created_at
    about = Map.merge(about(record), %{state: type, code: code})
    Telemetry.execute([:koma, :job, :finished], %{duration_ms: duration}, about)
  end

  defp about(record), do: Map.take(record, [:id, :task, :model])

  @doc """
  Stores events of a job, each with the record that it leaves, and tells them, in this order. Where
  the store writes one later, the store tells it then. Where another gateway has adopted the job,
  nobody tells it, and the calling process gets `{:fenced, id}`.
  """
  @spec store([{Record.t(), Event.t()}, ...]) :: :ok
  def store(happened) do
    {%Record{id: id} = record, _event} = List.last(happened)
    outcomes = Store.Jobs.append(happened)
    Followers.tell(id, for({{_record, event}, :ok} <- Enum.zip(happened, outcomes), do: event))

    case List.last(outcomes) do
      :ok -> if Record.ended?(record), do: Followers.ended(id), else: :ok
      :later -> :ok
      :fenced -> send(self(), {:fenced, id}) && :ok
    end
  end

  # A job that joined late, or after a restart, may have more attempts behind it than the run.
  defp renumber(%{"attempt" => attempt} = data, "started", record) do
    %{data | "attempt" => max(attempt, record.attempt + 1)}
  end

  defp renumber(%{"attempt" => _of_the_run} = data, _type, record) do
    %{data | "attempt" => record.attempt}
  end

  defp renumber(data, _type, _record), do: data

  # The process before this one, or the store, may have died between storing and telling.
  defp tell_untold(id) do
    told = Followers.told(id)
    if told, do: Followers.tell(id, Store.Jobs.events(id, told))
  end

  defp start_deadline(%Record{deadline_ms: nil}), do: :ok

  defp start_deadline(%Record{id: id, deadline_ms: deadline_ms, created_at: created_at}) do
    left = created_at + deadline_ms - System.system_time(:millisecond)
    # Where the clock was set back since, nobody waits longer than they said.
    _timer = Process.send_after(self(), {:deadline, id}, left |> max(0) |> min(deadline_ms))
    :ok
  end
end
