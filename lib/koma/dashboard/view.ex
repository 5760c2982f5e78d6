defmodule Koma.Dashboard.View do
  @moduledoc """
  The dashboard in front of one operator: which parts it shows, the question that is open, and what was
  done last. What it shows is in the address, so that it is the same after a restart of the server.
  """
  @behaviour Koma.Live.View

  require EEx

  alias Koma.{Admin, Caller}
  alias Koma.Dashboard.{Confirmation, Filter, Parts, Sampler}
  alias Koma.Live.{Layout, Panel}

  # How long it is told what was done.
  @notice_ms 8_000
  @again_ms 200
  @max_id 100

  @enforce_keys [:caller, :filter]
  defstruct [:caller, :filter, :job, :question, :notice, :sampler]

  @type t :: %__MODULE__{
          caller: Caller.t(),
          filter: Filter.t(),
          job: String.t() | nil,
          question: Confirmation.t() | nil,
          notice: reference | nil,
          sampler: reference | nil
        }

  EEx.function_from_string(
    :defp,
    :told,
    ~S(<p class="notice <%= kind %>"><%= text %></p>),
    [:kind, :text],
    engine: Koma.Live.HTML
  )

  @layout_file Path.join(__DIR__, "layout.html")
  @external_resource @layout_file
  # Fixed HTML with the names of the panels in double braces.
  @layout @layout_file
          |> File.read!()
          |> then(&Regex.split(~r/\{\{\w+\}\}/, &1, include_captures: true))
          |> Enum.map(fn
            "{{" <> name -> name |> String.trim_trailing("}}") |> String.to_atom()
            html -> html
          end)
          |> Layout.new()

  @impl true
  def layout, do: @layout

  @doc "The panels for somebody whose browser has not joined yet."
  @spec look(Koma.Live.View.params(), Caller.t()) :: Koma.Live.View.changes()
  def look(params, caller) do
    state = state(params, caller)
    state |> parts() |> Map.values() |> Sampler.look() |> named(state) |> Map.merge(own(state))
  end

  @impl true
  def mount(params, caller) do
    {changes, state} = watch(state(params, caller))
    {Map.merge(changes, own(state)), state}
  end

  @impl true
  def params(params, state) do
    chosen = state(params, state.caller)
    choose(state, chosen.filter, chosen.job)
  end

  @impl true
  def event("filter", values, state) do
    {changes, state} = choose(state, Filter.new(values), state.job)
    {changes, {:patch, Filter.url(state.filter, state.job)}, state}
  end

  def event("close_job", _values, state) do
    {changes, state} = choose(state, state.filter, nil)
    {changes, {:patch, Filter.url(state.filter, nil)}, state}
  end

  def event("ask", values, state), do: ask(state, Confirmation.new(values))
  def event("dismiss", _values, state), do: ask(state, nil)

  def event("confirm", values, %{question: %Confirmation{} = question} = state) do
    result =
      with {:ok, action} <- Confirmation.action(question, values),
           do: Admin.act(action, state.caller)

    {closed, state} = ask(state, nil)
    {told, state} = tell(state, result, question)
    {Map.merge(closed, told), state}
  end

  # Confirmed twice, or of a version of the page that is no more.
  def event(_other, _values, state), do: {%{}, state}

  @impl true
  def info({:koma_parts, news}, state), do: {named(news, state), state}

  def info({:forget, notice}, %{notice: notice} = state) do
    {%{notice: Panel.new({:safe, ""})}, %{state | notice: nil}}
  end

  def info({:DOWN, ref, :process, _sampler, _reason}, %{sampler: ref} = state) do
    {%{}, watch_again(%{state | sampler: nil})}
  end

  def info(:watch_again, state) do
    if GenServer.whereis(Sampler), do: watch(state), else: {%{}, watch_again(state)}
  end

  def info(_other, state), do: {%{}, state}

  defp watch_again(state) do
    _timer = Process.send_after(self(), :watch_again, @again_ms)
    state
  end

  defp state(params, caller) do
    %__MODULE__{caller: caller, filter: Filter.new(params), job: job(params["job"])}
  end

  defp job(id) when id in [nil, ""], do: nil
  defp job(id), do: String.slice(id, 0, @max_id)

  defp parts(%__MODULE__{filter: filter, job: job, caller: caller}) do
    %{
      status: {Parts.Status, nil},
      nodes: {Parts.Nodes, nil},
      queues: {Parts.Queues, nil},
      filters: {Parts.Filters, filter},
      jobs: {Parts.Jobs, filter},
      job: {Parts.Job, {job, caller.key}},
      rates: {Parts.Rates, nil},
      cache: {Parts.Cache, nil},
      errors: {Parts.Errors, nil}
    }
  end

  # Of the parts that stay, what changes comes by itself.
  defp choose(state, filter, job) do
    before = parts(state)
    {changes, state} = watch(%{state | filter: filter, job: job})
    {Map.reject(changes, fn {name, _panel} -> parts(state)[name] == before[name] end), state}
  end

  defp watch(state) do
    monitor = state.sampler || Process.monitor(Sampler)
    state = %{state | sampler: monitor}
    {state |> parts() |> Map.values() |> Sampler.watch() |> named(state), state}
  end

  # Of a part that is not shown any more, news may still be on their way.
  defp named(news, state) do
    for {name, part} <- parts(state), panel = news[part], into: %{}, do: {name, panel}
  end

  defp own(state) do
    %{dialog: Confirmation.panel(state.question), notice: Panel.new({:safe, ""})}
  end

  defp ask(state, question) do
    {%{dialog: Confirmation.panel(question)}, %{state | question: question}}
  end

  defp tell(state, result, question) do
    notice = make_ref()
    _timer = Process.send_after(self(), {:forget, notice}, @notice_ms)

    html =
      case result do
        :ok -> told("good", Confirmation.done(question))
        {:error, error} -> told("bad", "#{error.message} (#{error.code})")
      end

    {%{notice: Panel.new(html)}, %{state | notice: notice}}
  end
end
