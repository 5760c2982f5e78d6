defmodule Koma.Store.Backend do
  @moduledoc """
  What keeps jobs beyond the life of the BEAM. `Koma.Store.Disk` is the journal of one gateway,
  `Koma.Store.Redis` the store of a cluster; both pass test/koma/store/conformance_test.exs.

  A job has one owner, the gateway that accepted or adopted it, and only its owner writes. What is
  stored of the jobs of this gateway is in `Koma.Store.Memory`; here is what leads beyond.
  """

  alias Koma.{Error, Options}
  alias Koma.Job.{Event, Record}

  @typedoc "The gateway that owns a job, and the name of its BEAM, `nonode@nohost` without distribution."
  @type owner :: %{gateway: String.t(), node: String.t()}

  @doc "The processes of the store."
  @callback children(Options.t()) :: [Supervisor.child_spec() | {module, term}]

  @doc "Returns once the jobs of this gateway that the store knows without asking are in memory."
  @callback ready() :: :ok

  @doc """
  Stores a new job; `:ok` means it is stored. `:too_many` where its key has `max_jobs` already that
  have not ended.
  """
  @callback accept(Record.t(), max_jobs :: pos_integer | nil) ::
              :ok | :too_many | {:error, Error.t()}

  @doc "Stores a job that has ended when it is accepted, with its events."
  @callback accept_ended(Record.t(), [Event.t()]) :: :ok | {:error, Error.t()}

  @typedoc """
  What became of an event. `:ok`: it is stored and may be told. `:later`: it is in memory, will be
  written in its turn, and the store tells the followers then. `:fenced`: the job has another owner;
  nothing of it may be told here.
  """
  @type outcome :: :ok | :later | :fenced

  @doc "Stores events of a job of this gateway, oldest first, each with the record that it leaves."
  @callback append([{Record.t(), Event.t()}, ...]) :: [outcome]

  @doc "Forgets finished jobs for good; those that cannot be forgotten now are another time."
  @callback forget([String.t()]) :: :ok

  @doc "Reads a job that is not one of this gateway, with its events after a number, if any."
  @callback read(String.t(), after_seq :: non_neg_integer | :none) ::
              {:ok, Record.t(), [Event.t()]} | :error | {:error, Error.t()}

  @doc "Tells followers on this gateway of the events after a number, of a job of another gateway."
  @callback watch(String.t(), seq :: non_neg_integer) :: :ok

  @doc "At most `limit` jobs of an API key for which `keep?` is true, newest first."
  @callback list(key :: String.t() | nil, (Record.t() -> boolean), limit :: pos_integer) ::
              [Record.t()]

  @doc "All jobs, of all gateways; an error when nobody can tell."
  @callback all() :: {:ok, [Record.t()]} | :error

  @doc "Who owns a live job."
  @callback owner(String.t()) :: {:ok, owner} | :here | :error | {:error, Error.t()}
end
