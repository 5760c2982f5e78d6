defmodule Koma.Channel.Events do
  @moduledoc """
  Topics `job:<id>` and `pipeline:<id>`: the events of one job or pipeline, those missed first,
  and its previews in the form asked for at join; `cancel`.
  """

  @behaviour Koma.Channel

  alias Koma.Channel.Preview
  alias Koma.{Caller, Error, Follower, Params, Pipeline}
  alias Koma.Job.Event

  @join %{"after" => {{:integer, 0}, 0}, "previews" => {{:one_of, Preview.forms()}, "base64"}}

  @enforce_keys [:follower, :previews]
  defstruct [:follower, :previews]

  @type t :: %__MODULE__{follower: Follower.t(), previews: Preview.form()}

  @impl true
  @spec join(Follower.subject(), term, Caller.t()) ::
          {:ok, map, [Koma.Channel.push()], t} | {:error, Error.t()}
  def join({kind, id} = subject, payload, caller) do
    with {:ok, %{"after" => seq, "previews" => form}} <- Params.check(payload, @join),
         {:ok, follower, map, events, previews} <- Follower.start(subject, seq, caller) do
      state = %__MODULE__{follower: follower, previews: form}
      pushes = Enum.map(events, &event(&1, id)) ++ Enum.flat_map(previews, &preview(&1, state))
      {:ok, %{Atom.to_string(kind) => map}, pushes, state}
    end
  end

  @impl true
  @spec handle_in(String.t(), term, t) :: {:ok, map, t} | {:error, Error.t(), t}
  def handle_in("cancel", payload, state) do
    with {:ok, %{}} <- Params.check(payload, %{}),
         :ok <- cancel(state.follower) do
      {:ok, %{}, state}
    else
      {:error, error} -> {:error, error, state}
    end
  end

  def handle_in(event, _payload, state) do
    message = "The topics of jobs and pipelines know cancel."
    {:error, Error.new("unknown_event", message, field: "event", value: event), state}
  end

  @impl true
  @spec handle_info(term, t) :: {[Koma.Channel.push()], t}
  def handle_info(message, %__MODULE__{follower: %{subject: {_kind, id}}} = state) do
    case Follower.handle(state.follower, message) do
      {:events, events, follower} ->
        {Enum.map(events, &event(&1, id)), %__MODULE__{state | follower: follower}}

      {:preview, preview} ->
        {preview(preview, state), state}

      :other ->
        {[], state}
    end
  end

  defp cancel(%Follower{subject: {:job, id}, caller: caller}), do: Koma.cancel(id, caller)

  defp cancel(%Follower{subject: {:pipeline, id}, caller: caller}),
    do: Pipeline.cancel(id, caller)

  defp event(%Event{type: type} = event, id) do
    kind = if Follower.terminal?(type), do: :last, else: :event
    {kind, type, Event.json(event, id)}
  end

  defp preview(_preview, %__MODULE__{previews: "none"}), do: []

  defp preview({stage, preview}, %__MODULE__{previews: form, follower: %{subject: {_kind, id}}}) do
    extra = if stage, do: %{"stage" => stage}, else: %{}
    [{:preview, stage, Preview.new(form, id, preview, extra)}]
  end
end
