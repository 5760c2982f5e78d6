defmodule Koma.Dashboard.Confirmation do
  @moduledoc "What a button asked for, as a question with its consequences; and the action once it is confirmed."

  require EEx

  alias Koma.{Admin, Error}
  alias Koma.Live.Panel

  # what, the word on the button, the consequence
  @questions %{
    "cancel" => {"Cancel", "The job ends as cancelled; its slot is free within one step."},
    "drain" =>
      {"Drain", "It takes no more jobs; those that run finish. It stays so until it is resumed."},
    "resume" => {"Resume", "It takes jobs again."},
    "restart" =>
      {"Restart",
       "It takes no more jobs. When those that run are done, but after a minute at the latest, its " <>
         "process is started anew; jobs that still ran are run again."},
    "load" =>
      {"Load",
       "When the jobs that run are done, it loads the checkpoint. Later jobs run with it."},
    "unload" =>
      {"Unload",
       "When the jobs that run are done, it lets go of its checkpoint, and serves nothing."},
    "pause" => {"Pause", "Jobs are accepted and wait; those that run go on."},
    "go_on" => {"Resume", "The jobs that wait have their turns again."}
  }

  @enforce_keys [:what, :on]
  defstruct [:what, :on]

  @type t :: %__MODULE__{what: String.t(), on: String.t()}

  EEx.function_from_file(
    :defp,
    :dialog,
    Path.join(__DIR__, "confirmation.html.eex"),
    [:question, :word, :consequence],
    engine: Koma.Live.HTML,
    trim: true
  )

  @doc "The question of a button; nil for what no button asks."
  @spec new(%{String.t() => String.t()}) :: t | nil
  def new(%{"do" => what, "on" => on}) when is_map_key(@questions, what) and on != "" do
    %__MODULE__{what: what, on: on}
  end

  def new(_other), do: nil

  @doc "How it looks; nothing where nothing is asked."
  @spec panel(t | nil) :: Panel.t()
  def panel(nil), do: Panel.new({:safe, ""})

  def panel(%__MODULE__{} = question) do
    {word, consequence} = Map.fetch!(@questions, question.what)
    question |> dialog(word, consequence) |> Panel.new()
  end

  @doc "The action that was confirmed, with what else was filled in."
  @spec action(t, %{String.t() => String.t()}) :: {:ok, Admin.action()} | {:error, Error.t()}
  def action(%__MODULE__{what: "cancel", on: id}, _values), do: {:ok, {:cancel, id}}
  def action(%__MODULE__{what: "pause", on: family}, _values), do: {:ok, {:pause, family}}
  def action(%__MODULE__{what: "go_on", on: family}, _values), do: {:ok, {:resume, family}}

  def action(%__MODULE__{what: "load", on: node}, values) do
    name = values |> Map.get("checkpoint", "") |> String.trim()
    with :ok <- Admin.check_checkpoint(name), do: {:ok, {:order, node, {:load, name}}}
  end

  def action(%__MODULE__{what: order, on: node}, _values) do
    {:ok, {:order, node, String.to_existing_atom(order)}}
  end

  @doc "What is told once it is done."
  @spec done(t) :: String.t()
  def done(%__MODULE__{what: what, on: on}) do
    {word, _consequence} = Map.fetch!(@questions, what)
    "#{word} #{on}: done, or under way."
  end
end
