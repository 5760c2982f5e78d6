defmodule Koma.Queue.Stride do
  @moduledoc """
  Whose turn is next among flows that share by weight: stride scheduling (C. A. Waldspurger and
  W. E. Weihl, "Stride Scheduling: Deterministic Proportional-Share Resource Management",
  MIT/LCS/TM-528, 1995).

  Every flow has a pass. The flow with the lowest pass is served, and its pass grows by its
  stride, which is inverse to its weight. A flow begins one stride after the pass that was served
  last: it waits for a turn of its own, and neither owes nor is owed anything for the time before.
  So between flows that wait all the time the served turns differ by at most one from their
  weights' ratio, and none waits for ever.

  A flow is only counted here (how many wait in it); who waits is known by the caller.
  """

  # Divisible by every weight up to 20, so that their ratios are exact.
  @one 232_792_560

  defstruct time: 0, flows: %{}

  @type name :: term
  @type flow :: %{pass: non_neg_integer, stride: pos_integer, waiting: pos_integer}
  @opaque t :: %__MODULE__{time: non_neg_integer, flows: %{name => flow}}

  @doc "No flows."
  @spec new() :: t
  def new, do: %__MODULE__{}

  @doc "One more waits in a flow; `weight` counts when the flow begins to wait."
  @spec add(t, name, pos_integer) :: t
  def add(%__MODULE__{flows: flows} = stride, name, weight) do
    flow =
      case flows do
        %{^name => flow} -> %{flow | waiting: flow.waiting + 1}
        _new -> begin(stride.time, max(div(@one, weight), 1))
      end

    %{stride | flows: Map.put(flows, name, flow)}
  end

  @doc "The flow whose turn it is; names decide a tie."
  @spec next(t) :: {:ok, name} | :empty
  def next(%__MODULE__{flows: flows}) when map_size(flows) == 0, do: :empty

  def next(%__MODULE__{flows: flows}) do
    {name, _flow} = Enum.min_by(flows, fn {name, flow} -> {flow.pass, name} end)
    {:ok, name}
  end

  @doc "The flow had its turn."
  @spec serve(t, name) :: t
  def serve(%__MODULE__{flows: flows, time: time} = stride, name) do
    flow = Map.fetch!(flows, name)
    served = %{flow | pass: flow.pass + flow.stride}
    leave(%{stride | time: max(time, flow.pass), flows: Map.put(flows, name, served)}, name)
  end

  @doc "One that waited in the flow went without having had a turn."
  @spec leave(t, name) :: t
  def leave(%__MODULE__{flows: flows} = stride, name) do
    case Map.fetch!(flows, name) do
      %{waiting: 1} -> forget(stride, name)
      flow -> %{stride | flows: Map.put(flows, name, %{flow | waiting: flow.waiting - 1})}
    end
  end

  @doc "How many turns come before that of the one behind `index` others of its flow."
  @spec turns_before(t, name, non_neg_integer) :: non_neg_integer
  def turns_before(%__MODULE__{flows: flows}, name, index) do
    own = Map.fetch!(flows, name)
    pass = own.pass + index * own.stride

    flows
    |> Map.delete(name)
    |> Enum.reduce(index, fn {other, flow}, sum -> sum + served(flow, pass, other < name) end)
  end

  # How often a flow is served while its pass is below (on a tie in its favour: not above) `pass`.
  defp served(flow, pass, wins_tie?) do
    reach = pass - flow.pass + if(wins_tie?, do: 1, else: 0)
    # The smallest n with n * stride >= reach.
    turns = -Integer.floor_div(-reach, flow.stride)
    turns |> max(0) |> min(flow.waiting)
  end

  defp begin(time, stride), do: %{pass: time + stride, stride: stride, waiting: 1}

  defp forget(%__MODULE__{flows: flows}, _last) when map_size(flows) == 1, do: new()
  defp forget(stride, name), do: %{stride | flows: Map.delete(stride.flows, name)}
end
