defmodule Koma.Store do
  @moduledoc """
  What outlives the BEAM, below `data_dir`: `jobs/` (`Koma.Store.Disk`), `artifacts/`
  (`Koma.Store.Artifacts`), and `tmp/` and `work/`, which are emptied at start. With a Redis the
  jobs are there (`Koma.Store.Redis`). What is kept how long is told in docs/store.md.
  """
  use Supervisor

  alias Koma.Options
  alias Koma.Store.{Artifacts, Collector, Folder, Grace, Jobs, Temporary}

  @doc "Starts the store of this peer."
  @spec start_link(Options.t()) :: Supervisor.on_start()
  def start_link(%Options{} = options) do
    Supervisor.start_link(__MODULE__, options, name: __MODULE__)
  end

  @doc "The folder in which a model node writes the outputs of one attempt."
  @spec work_dir(String.t(), pos_integer) :: Path.t()
  def work_dir(job_id, attempt) do
    Path.join([Options.get().data_dir, "work", "#{job_id}-#{attempt}"])
  end

  @impl Supervisor
  def init(%Options{data_dir: dir} = options) do
    Artifacts.prepare(dir)
    Folder.empty!(Path.join(dir, "work"))

    before = [{Temporary, dir: Path.join(dir, "tmp")}, Grace]
    children = before ++ Jobs.backend().children(options) ++ [Collector]
    Supervisor.init(children, strategy: :rest_for_one)
  end
end
