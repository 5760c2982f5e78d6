defmodule Koma.Access do
  @moduledoc """
  Who may use this server, and how much of it: see docs/security.md.

  The pure parts are `Koma.Access.KeyFile` (what an operator writes), `Keyring` (secrets to keys)
  and `Policy` (who is let in), `Bucket`, `Holds` and `Refusal` (limits). `Keys` is the process that
  reads the file, `Usage` the one that counts.

  Limits are those of one key on this server. Who has no key, and whoever goes on for a key that
  was taken away, has none.
  """
  use Supervisor

  alias Koma.Access.{Connections, Holds, Key, Keys, Limits, Policy, Refusal, Revocations, Usage}
  alias Koma.{Caller, Error, Options, Queue, Secret, Telemetry}
  alias Koma.Pipeline.Sizes
  alias Koma.Store.Owners

  @unlimited Enum.reduce(Limits.documented(), %Limits{}, fn {name, _default, _unit, _meaning},
                                                            limits ->
               Map.put(limits, name, nil)
             end)

  # No key has this id.
  @guest ""
  @max_guests 256

  @doc "Starts it; raises when the options name no keys where keys are needed, or broken ones."
  @spec start_link(Options.t()) :: Supervisor.on_start()
  def start_link(%Options{} = options) do
    Supervisor.start_link(__MODULE__, options, name: __MODULE__)
  end

  @doc "Whether a server may start with these options, or why not."
  @spec check(Options.t()) :: :ok | {:error, String.t()}
  defdelegate check(options), to: Keys

  @doc """
  The caller who shows `secret` (`nil`: none), or `unauthorized`. Where no keys are configured
  everybody is let in and nothing is looked at.
  """
  @spec authenticate(secret :: String.t() | nil) :: {:ok, Caller.t()} | {:error, Error.t()}
  def authenticate(secret) do
    with {:error, error} <- Policy.authenticate(Keys.policy(), secret), do: refuse(error)
  end

  @doc "Whether the caller may act on the server itself."
  @spec operator?(Caller.t()) :: boolean
  def operator?(%Caller{roles: roles}), do: :operator in roles

  @doc "Whether the caller is somebody: of a known key, or anybody where keys are not asked for."
  @spec known?(Caller.t()) :: boolean
  def known?(%Caller{key: key}), do: key != nil or not keys?()

  @doc "Whether the caller may read the metrics: by role or, where no keys are, anybody."
  @spec check_metrics(Caller.t()) :: :ok | {:error, Error.t()}
  def check_metrics(%Caller{roles: roles}) do
    if :metrics in roles or :operator in roles or not keys?(),
      do: :ok,
      else: refuse(Error.new("forbidden", "This needs a key with the role metrics."))
  end

  @doc "Whether the caller may act on the server itself, or `forbidden`."
  @spec check_operator(Caller.t()) :: :ok | {:error, Error.t()}
  def check_operator(caller) do
    if operator?(caller),
      do: :ok,
      else: refuse(Error.new("forbidden", "This needs a key with the role operator."))
  end

  @doc "Whether a caller who was let in before would be let in now, with the same roles."
  @spec valid?(Caller.t()) :: boolean
  def valid?(%Caller{} = caller) do
    Policy.valid?(Keys.policy(), caller) and not Revocations.revoked?(caller.session)
  end

  @doc "The same caller with the roles of its key now; `unauthorized` if that is gone."
  @spec current(Caller.t()) :: {:ok, Caller.t()} | {:error, Error.t()}
  def current(%Caller{} = caller) do
    if Revocations.revoked?(caller.session),
      do: {:error, Error.new("unauthorized", "This session was ended.")},
      else: Policy.current(Keys.policy(), caller)
  end

  @doc "Whether callers show keys here."
  @spec keys?() :: boolean
  def keys?, do: Keys.policy().keyring != nil

  @doc "The weights of the keys, by id."
  @spec weights() :: %{String.t() => pos_integer}
  def weights do
    case Keys.policy().keyring do
      nil -> %{}
      keyring -> Map.new(keyring.keys, fn {id, %Key{weight: weight}} -> {id, weight} end)
    end
  end

  # --- limits

  @doc "Counts a request of the caller; `rate_limited` when there were too many."
  @spec admit(Caller.t()) :: :ok | {:error, Error.t()}
  def admit(%Caller{key: key}) do
    with %Limits{rate: rate, burst: burst} when rate != nil <- limits(key),
         {:wait, ms} <- Usage.request(key, rate, burst) do
      refuse(Refusal.too_often(rate, ms))
    else
      _no_limit_or_ok -> :ok
    end
  end

  @doc """
  The process `holder` has one more socket, topic or upload for the caller, until it gives it back
  or dies; `limit_reached` where the key has as many as it may have.
  """
  @spec hold(Caller.t(), :sockets | :topics | :uploads, holder :: pid) ::
          :ok | {:error, Error.t()}
  def hold(caller, kind, holder \\ self())

  # Pages of the dashboard before their login: all of them together.
  def hold(%Caller{key: nil}, :sockets, holder) do
    if keys?() and Usage.take(holder, @guest, :sockets, 1, @max_guests) == :full,
      do: refuse(Refusal.too_many(:sockets, @max_guests)),
      else: :ok
  end

  def hold(%Caller{key: nil}, _kind, _holder), do: :ok

  def hold(%Caller{key: key}, kind, holder) do
    limit = Map.fetch!(limits(key), kind)

    case Usage.take(holder, key, kind, 1, limit) do
      :ok -> :ok
      :full -> refuse(Refusal.too_many(kind, limit))
    end
  end

  @doc "The calling process has one less."
  @spec release(Caller.t(), Holds.kind()) :: :ok
  def release(%Caller{key: nil}, _kind), do: :ok
  def release(%Caller{key: key}, kind), do: Usage.give(self(), key, kind, 1)

  @doc """
  The calling process is about to receive so many bytes of an upload, which count against what the
  key may upload in a day and, until the process ends, against what it may store.
  """
  @spec receive_bytes(Caller.t(), non_neg_integer) :: :ok | {:error, Error.t()}
  def receive_bytes(%Caller{key: key}, bytes) when key == nil or bytes == 0, do: :ok

  def receive_bytes(%Caller{key: key}, bytes) do
    %Limits{stored_bytes: stored} = limits(key)
    room = stored && max(stored - stored_bytes(key), 0)

    with :ok <- spend(key, :bytes_per_day, bytes),
         :full <- Usage.take(self(), key, :stored_bytes, bytes, room) do
      :ok = Usage.refund(key, :bytes_per_day, bytes)
      refuse_bytes(stored)
    end
  end

  @doc """
  What takes so many bytes is about to be stored for a key, e.g. the outputs of a job;
  `quota_exceeded` where the key has no room for it.
  """
  @spec check_room(key :: String.t() | nil, bytes :: non_neg_integer) :: :ok | {:error, Error.t()}
  def check_room(key, bytes) do
    case limits(key).stored_bytes do
      nil -> :ok
      limit -> if stored_bytes(key) + bytes <= limit, do: :ok, else: refuse_bytes(limit)
    end
  end

  @doc """
  Whether a key may have one more pipeline: as many that have not ended as jobs, and within the
  bytes that it may store. `admit` takes the place, given how many there may be of both.
  """
  @spec admit_pipeline(
          key :: String.t() | nil,
          (Limits.limit(), Limits.limit() ->
             :ok | :too_many | :full)
        ) ::
          :ok | {:error, Error.t()}
  def admit_pipeline(key, admit) do
    %Limits{jobs: jobs, stored_bytes: stored} = limits(key)

    case admit.(jobs, stored && stored - Owners.bytes(key) - Owners.produced(key)) do
      :ok -> :ok
      :too_many -> refuse(Refusal.too_many(:pipelines, jobs))
      :full -> refuse_bytes(stored)
    end
  end

  defp stored_bytes(key), do: Owners.bytes(key) + Owners.produced(key) + Sizes.bytes(key)
  defp refuse_bytes(limit), do: refuse(Refusal.full(limit, Options.get().grace_ms))

  @doc """
  One of the jobs that a key may have accepted in a day; `quota_exceeded` without one, or without
  room for anything that it makes.
  """
  @spec count_job(key :: String.t() | nil) :: :ok | {:error, Error.t()}
  def count_job(nil), do: :ok
  def count_job(key), do: with(:ok <- check_room(key, 1), do: spend(key, :jobs_per_day, 1))

  @doc "That job was not accepted after all."
  @spec discount_job(key :: String.t() | nil) :: :ok
  def discount_job(nil), do: :ok
  def discount_job(key), do: Usage.refund(key, :jobs_per_day, 1)

  @doc "How many jobs of a key may be there that have not ended; `nil`: any number."
  @spec max_jobs(key :: String.t() | nil) :: Limits.limit()
  def max_jobs(key), do: limits(key).jobs

  @doc "The refusal of one more."
  @spec refuse_job(key :: String.t()) :: {:error, Error.t()}
  def refuse_job(key), do: refuse(Refusal.too_many(:jobs, max_jobs(key)))

  defp spend(key, kind, amount) do
    limit = Map.fetch!(limits(key), kind)

    case Usage.spend(key, kind, amount, limit) do
      :ok -> :ok
      :used_up -> refuse(Refusal.used_up(kind, limit, Usage.until_tomorrow_ms()))
    end
  end

  defp limits(key) do
    case Policy.key(Keys.policy(), key) do
      {:ok, %Key{limits: limits}} -> limits
      :error -> @unlimited
    end
  end

  defp refuse(error) do
    Telemetry.execute([:koma, :access, :refused], %{count: 1}, %{code: error.code})
    {:error, error}
  end

  @doc """
  Reads the keys anew, as it happens by itself when their file has changed. Sockets and event streams get
  `:koma_access_changed` and end themselves if their caller is not `valid?/1` any more.
  """
  @spec reload() :: :ok | {:error, String.t()}
  defdelegate reload, to: Keys

  @doc false
  # Called by Keys after the keys were read anew.
  @spec changed() :: :ok
  def changed do
    Queue.weigh(weights())
    Usage.tell_sockets(:koma_access_changed)
  end

  @impl Supervisor
  def init(options) do
    :ok = Secret.load(options)

    children = [{Usage, options}, {Revocations, options}, {Keys, options}, {Connections, options}]
    Supervisor.init(children, strategy: :one_for_one)
  end
end
