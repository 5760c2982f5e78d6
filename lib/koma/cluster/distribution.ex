defmodule Koma.Cluster.Distribution do
  @moduledoc """
  Makes this BEAM a node of the Erlang distribution: name, cookie, ports, `epmd`. What belongs on
  the command line of the BEAM (TLS) is in docs/cluster.md.

  There is no default cookie: whoever has it may run any code on every peer.
  """
  require Logger

  alias Koma.Options

  @min_cookie 16
  @epmd_tries 50
  @epmd_pause_ms 100

  @doc """
  Starts it; harmless when the BEAM has this name already. Raises `ArgumentError` without a cookie of
  at least #{@min_cookie} characters, and when name or ports cannot be had.
  """
  @spec start!(Options.t()) :: :ok
  def start!(%Options{node: name} = options) do
    cookie = cookie!(options)
    host = host!(name)
    :ok = configure(options, host)

    if not Node.alive?() do
      isolate_global()
      ensure_epmd()
      listen!(name)
    end

    if node() != String.to_atom(name) do
      raise ArgumentError, "KOMA_NODE is #{name}, but this BEAM is called #{node()}"
    end

    true = Node.set_cookie(cookie)
    :ok
  end

  defp cookie!(%Options{cookie: nil, cookie_file: nil, node: name}) do
    raise ArgumentError,
          "KOMA_NODE is #{name}, but there is no cookie: set KOMA_COOKIE or KOMA_COOKIE_FILE to a " <>
            "secret that all peers share (there is no default)"
  end

  defp cookie!(%Options{cookie: nil, cookie_file: file}) do
    case File.read(file) do
      {:ok, text} -> long_enough!(String.trim(text))
      {:error, reason} -> raise ArgumentError, "KOMA_COOKIE_FILE #{file}: #{reason}"
    end
  end

  defp cookie!(%Options{cookie: cookie}), do: long_enough!(cookie)

  # An atom has at most 255 characters.
  defp long_enough!(cookie) when byte_size(cookie) in @min_cookie..255 do
    String.to_atom(cookie)
  end

  defp long_enough!(cookie) do
    raise ArgumentError,
          "the cookie has #{byte_size(cookie)} characters; it needs #{@min_cookie} to 255"
  end

  defp host!(name) do
    case String.split(name, "@") do
      [short, host] when short != "" and host != "" -> host
      _other -> raise ArgumentError, "KOMA_NODE #{inspect(name)} is not of the form name@host"
    end
  end

  defp configure(options, host) do
    {low, high} = options.dist_ports
    put(:inet_dist_listen_min, low)
    put(:inet_dist_listen_max, high)
    put(:net_ticktime, options.tick_s)
    # Only membership connects: nothing that is sent ever waits for a connection to be made.
    put(:dist_auto_connect, :never)

    with {:ok, address} <- :inet.parse_address(String.to_charlist(host)),
         do: put(:inet_dist_use_interface, address)

    :ok
  end

  defp put(key, value), do: :application.set_env(:kernel, key, value)

  # `global` would cut a third peer off when two others lose each other; Koma does not use it.
  # It reads this when it starts, which is before any code of ours runs.
  defp isolate_global do
    put(:prevent_overlapping_partitions, false)
    put(:connect_all, false)

    with :ok <- Supervisor.terminate_child(:kernel_sup, :global_name_server),
         {:ok, _pid} <- Supervisor.restart_child(:kernel_sup, :global_name_server) do
      :ok
    else
      error ->
        Logger.warning("global goes on as it was: #{inspect(error)}; see docs/cluster.md")
    end
  end

  # `erl -name` does this; a name that is taken later has to do it itself.
  defp ensure_epmd do
    if own_epmd?() and :erl_epmd.names() == {:error, :address} do
      epmd = System.find_executable("epmd") || raise ArgumentError, "epmd is not on the PATH"
      {_output, _status} = System.cmd(epmd, port_arguments() ++ ["-daemon"])
      await_epmd(@epmd_tries)
    end
  end

  defp own_epmd? do
    :init.get_argument(:start_epmd) != {:ok, [['false']]} and
      :init.get_argument(:epmd_module) == :error and
      :init.get_argument(:erl_epmd_port) == :error
  end

  defp port_arguments do
    case :init.get_argument(:epmd_port) do
      {:ok, [[port] | _]} -> ["-port", to_string(port)]
      :error -> []
    end
  end

  defp await_epmd(0), do: raise(ArgumentError, "epmd was started and does not answer")

  defp await_epmd(tries) do
    if :erl_epmd.names() == {:error, :address} do
      Process.sleep(@epmd_pause_ms)
      await_epmd(tries - 1)
    end
  end

  defp listen!(name) do
    case :net_kernel.start(String.to_atom(name), %{name_domain: :longnames}) do
      {:ok, _pid} ->
        :ok

      {:error, reason} ->
        raise ArgumentError,
              "the distribution does not start as #{name} (name taken, no epmd, no free port, or " <>
                "TLS misconfigured): #{inspect(reason, limit: 10)}"
    end
  end
end
