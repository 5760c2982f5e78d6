defmodule Koma.Access.Descriptors do
  @moduledoc """
  How many file descriptors this server may have open, and how many of them connections of clients
  may take. The rest is for the server itself: model nodes (five each), files, peers and Redis.
  """

  alias Koma.Options

  @of_model_node 8
  @least_reserve 96

  @doc "The limit of open files of this process, as it was when the emulator started (`ulimit -n`)."
  @spec limit() :: pos_integer
  def limit do
    [poll | _others] = :erlang.system_info(:check_io)
    Keyword.fetch!(poll, :max_fds)
  end

  @doc "How many connections leave enough for the server itself: at least one."
  @spec for_connections(Options.t()) :: pos_integer
  def for_connections(%Options{models: models}) do
    # A socket is a port of the emulator, too.
    limit = min(limit(), :erlang.system_info(:port_limit))
    reserve = max(@least_reserve, div(limit, 8)) + @of_model_node * length(models)
    max(limit - reserve, 1)
  end
end
