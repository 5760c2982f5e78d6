defmodule Koma.Metrics do
  @moduledoc """
  What an operator watches, in the text format of Prometheus at `GET /metrics`.

  Counters and histograms are counted from telemetry events (`Koma.Metrics.Recorder`) in a table
  that this process owns (`Koma.Metrics.Table`); what is a state is read when somebody asks
  (`Koma.Metrics.Gauges`). The list of all of them is `Koma.Metrics.Definitions`. Labels only
  have values that the configuration or the code bounds: never the id of a job, a key or a prompt.
  """
  use GenServer

  alias Koma.Metrics.{Definitions, Gauges, Recorder, Table, Text}
  alias Koma.Telemetry

  @doc "Starts the owner of the table; everything begins at 0."
  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @doc "What `Koma.Telemetry` is to be started with, so that events are counted."
  @spec handlers() :: [Telemetry.attachment()]
  def handlers, do: [{__MODULE__, Recorder.events(), &Recorder.handle/4, nil}]

  @doc "Everything, in the text format."
  @spec scrape() :: iodata
  def scrape do
    values = Map.merge(Table.read(), Gauges.read())

    for definition <- Definitions.all() do
      Text.family(definition, Map.get(values, definition.name, []))
    end
  end

  @impl GenServer
  def init(nil) do
    :ok = Table.create()
    {:ok, nil}
  end
end
