defmodule Koma.Access.Revocations do
  @moduledoc """
  The sessions of browsers that were logged out before their cookie ends: a cookie that somebody
  kept lets nobody in. They are kept in `access/revoked` below `data_dir`, a line for each, until
  their cookies are too old anyway; gateways that are connected tell one another.
  """
  use GenServer
  require Logger

  alias Koma.Access.Usage
  alias Koma.{Cluster, Options}
  alias Koma.Store.Folder

  @table __MODULE__
  @line ~r/\A([A-Za-z0-9_-]{1,64}) ([0-9]{1,12})\z/

  @doc "Starts it, with what was revoked before."
  @spec start_link(Options.t()) :: GenServer.on_start()
  def start_link(%Options{} = options) do
    GenServer.start_link(__MODULE__, options, name: __MODULE__)
  end

  @doc "Ends a session here and at other gateways; `until` is when its cookie is too old, in s."
  @spec revoke(session :: String.t(), until :: integer) :: :ok
  def revoke(session, until) do
    :ok = GenServer.call(__MODULE__, {:revoke, session, until})
    Cluster.tell_gateways(__MODULE__, {:"$gen_cast", {:revoke, session, until}})
  end

  @doc "Whether a session was ended; `nil` is none."
  @spec revoked?(session :: String.t() | nil) :: boolean
  def revoked?(nil), do: false
  def revoked?(session), do: :ets.member(@table, session)

  @impl GenServer
  def init(%Options{data_dir: dir}) do
    @table = :ets.new(@table, [:set, :named_table, :protected, read_concurrency: true])
    path = Path.join([dir, "access", "revoked"])
    _known = read(path)
    {:ok, path, {:continue, :rewrite}}
  end

  # Without those that are over.
  @impl GenServer
  def handle_continue(:rewrite, path), do: {:noreply, write(path)}

  @impl GenServer
  def handle_call({:revoke, session, until}, _from, path) do
    {:reply, :ok, ended(session, until, path)}
  end

  @impl GenServer
  def handle_cast({:revoke, session, until}, path), do: {:noreply, ended(session, until, path)}

  defp ended(session, until, path) do
    :ets.insert(@table, {session, until})
    path = write(path)
    Usage.tell_sockets(:koma_access_changed)
    path
  end

  # There are few: one for each time that an operator logged out within a week.
  defp write(path) do
    now = System.system_time(:second)
    :ets.select_delete(@table, [{{:_, :"$1"}, [{:<, :"$1", now}], [true]}])
    lines = for {session, until} <- :ets.tab2list(@table), do: "#{session} #{until}\n"
    new = path <> ".new"

    with true <- lines != [] or File.exists?(path),
         :ok <- Folder.make(Path.dirname(path)),
         :ok <- Folder.write(new, lines),
         {:error, reason} <- File.rename(new, path) do
      complain(path, reason)
    else
      {:error, reason} -> complain(path, reason)
      _written_or_nothing -> path
    end
  end

  defp complain(path, reason) do
    Logger.error(
      "#{path}: not written: #{:file.format_error(reason)}; after a restart ended sessions go on"
    )

    path
  end

  defp read(path) do
    with {:ok, text} <- File.read(path) do
      for line <- String.split(text, "\n"), [_, session, until] <- [Regex.run(@line, line)] do
        :ets.insert(@table, {session, String.to_integer(until)})
      end
    end
  end
end
