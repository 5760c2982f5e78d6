defmodule Koma.Access.Keys do
  @moduledoc """
  Reads the keys at start, and again when their file has changed. Readers get the policy from
  memory, without asking this process.

  A change counts once the file has been the same for one look (2 s), so that a file that is being
  written is not read by halves. A file that has an error, or is gone, changes nothing and is told
  in the log; a file without keys lets nobody in.
  """
  use GenServer
  require Logger

  alias Koma.Access.{KeyFile, Policy}
  alias Koma.{Options, Secret}

  @look_ms 2_000
  @policy {__MODULE__, :policy}
  # Of a policy that nobody will ask.
  @no_blind <<0::256>>
  # Write permission of the group and of others.
  @writable 0o022

  @doc "Reads the keys, without further effect: why the server must not start, if it must not."
  @spec check(Options.t()) :: :ok | {:error, String.t()}
  def check(options), do: with({:ok, _policy} <- first(options, @no_blind), do: :ok)

  @doc "Reads the keys. Raises `ArgumentError` where `check/1` has something to say."
  @spec start_link(Options.t()) :: GenServer.on_start()
  def start_link(%Options{} = options) do
    GenServer.start_link(__MODULE__, options, name: __MODULE__)
  end

  @doc "The policy now."
  @spec policy() :: Policy.t()
  def policy, do: :persistent_term.get(@policy)

  @doc "Reads the keys now; after an error the earlier ones stay."
  @spec reload() :: :ok | {:error, String.t()}
  def reload, do: GenServer.call(__MODULE__, :reload)

  @impl GenServer
  def init(options) do
    # Looked at before it is read: a change in between is seen by the next look.
    stat = stat(options.keys_file)

    case first(options, Secret.key(:access)) do
      {:ok, policy} ->
        :persistent_term.put(@policy, policy)
        announce(options, policy)
        {:ok, look_later(%{options: options, seen: stat, loaded: stat})}

      {:error, reason} ->
        raise ArgumentError, reason
    end
  end

  # To begin with, somebody must be able to get in.
  defp first(options, blind) do
    with {:ok, %Policy{keyring: %{keys: keys}}} when map_size(keys) == 0 <- load(options, blind),
         do: {:error, "no API key is in KOMA_KEYS or KOMA_KEYS_FILE"}
  end

  @impl GenServer
  def handle_call(:reload, _from, state) do
    {answer, state} = change(state)
    {:reply, answer, state}
  end

  @impl GenServer
  def handle_info(:look, state), do: {:noreply, state |> look() |> look_later()}

  defp look(%{seen: seen, loaded: loaded} = state) do
    case stat(state.options.keys_file) do
      ^loaded -> %{state | seen: loaded}
      ^seen -> state |> change() |> elem(1)
      new -> %{state | seen: new}
    end
  end

  defp look_later(%{options: %Options{keys_file: nil}} = state), do: state

  defp look_later(state) do
    _timer = Process.send_after(self(), :look, @look_ms)
    state
  end

  # An error is told once for each state of the file.
  defp change(%{options: options} = state) do
    stat = stat(options.keys_file)
    {replace(load(options, Secret.key(:access))), %{state | seen: stat, loaded: stat}}
  end

  defp replace({:ok, policy}) do
    :persistent_term.put(@policy, policy)
    Logger.info("API keys are read again: #{count(policy)}")
    Koma.Access.changed()
  end

  defp replace({:error, reason}) do
    Logger.error("API keys stay as they were: #{Koma.LogLine.text(reason)}")
    {:error, reason}
  end

  defp load(options, blind) do
    if Policy.keys?(options),
      do: with({:ok, keys} <- read(options), do: {:ok, Policy.with_keys(keys, blind)}),
      else: Policy.without_keys(options)
  end

  defp read(%Options{keys: keys, keys_file: file}) do
    with {:ok, text} <- read_file(file),
         {:ok, filed} <- named(KeyFile.parse(text), file),
         {:ok, given} <- named(KeyFile.parse(keys || ""), "KOMA_KEYS"),
         do: KeyFile.distinct(filed ++ given)
  end

  defp read_file(nil), do: {:ok, ""}

  defp read_file(path) do
    with {:error, reason} <- File.read(path),
         do: {:error, "the keys file #{path}: #{:file.format_error(reason)}"}
  end

  defp named({:error, reason}, source), do: {:error, "#{source}: #{reason}"}
  defp named(keys, _source), do: keys

  # What tells one state of the file from another.
  defp stat(nil), do: nil

  defp stat(path) do
    with {:ok, stat} <- File.stat(path, time: :posix), do: {stat.mtime, stat.size, stat.inode}
  end

  defp announce(%Options{bind: bind} = options, %Policy{keyring: nil}) do
    if Policy.loopback?(bind),
      do: Logger.info("No API keys: whoever reaches #{bind} on this machine is operator"),
      else: Logger.warning("No API keys, and open on #{options.bind}: everybody may use it")
  end

  defp announce(options, policy) do
    Logger.info("API keys are asked for: #{count(policy)}")
    warn_writable(options.keys_file)
  end

  defp warn_writable(nil), do: :ok

  defp warn_writable(path) do
    if Bitwise.band(File.stat!(path).mode, @writable) != 0,
      do: Logger.warning("The keys file #{path} may be changed by other users of this machine")

    :ok
  end

  defp count(%Policy{keyring: keyring}) do
    case map_size(keyring.keys) do
      1 -> "1 key"
      n -> "#{n} keys"
    end
  end
end
