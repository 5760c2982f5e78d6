defmodule Koma.Redis do
  @moduledoc """
  Redis, where one is configured: what the job store and the result cache ask of it. It rests on
  `eredis`; the connection, its circuit breaker and its log lines are `Koma.Redis.Connection`.

  Callers share one connection: commands are pipelined in the order in which they come. While the
  breaker is open the answer is an error at once; nobody waits for a Redis that is down, and
  for one that hangs at most `redis_timeout_ms`. After a timeout nobody knows whether the commands
  were carried out: whatever is sent may come twice, and the scripts (`Koma.Redis.Scripts`) bear it.
  """

  alias Koma.Redis.{Connection, Scripts}
  alias Koma.{Options, Telemetry}

  @error ~r/\A(ERR|WRONGTYPE|NOSCRIPT|OOM|MISCONF|NOREPLICAS|LOADING|READONLY|NOAUTH|MASTERDOWN|BUSY|EXECABORT|UNKILLABLE|NOPERM) /

  @type command :: [iodata | integer]
  @typedoc "What Redis answered: nil, bytes, a list; or the text of its error."
  @type reply :: {:ok, nil | binary | list} | {:error, binary}
  @typedoc "Why nothing was answered: the breaker is open, the time is over, the connection is lost."
  @type failure :: :down | :timeout | :closed

  @doc "Whether a Redis is configured."
  @spec configured?() :: boolean
  def configured?, do: Options.get().redis != nil

  @doc "Whether it answers, as far as is known."
  @spec up?() :: boolean
  def up?, do: match?({:ok, _client}, Connection.client())

  @doc "Carries out commands in their order, with one round trip."
  @spec pipeline([command]) :: {:ok, [reply]} | {:error, failure}
  def pipeline(commands) do
    case Connection.client() do
      {:ok, client} -> measured(client, commands, Options.get().redis_timeout_ms)
      :down -> {:error, :down}
    end
  end

  @doc "Carries out one command."
  @spec command(command) :: {:ok, nil | binary | list} | {:error, failure | binary}
  def command(command) do
    with {:ok, [reply]} <- pipeline([command]), do: reply
  end

  @doc "The command that runs a script of `priv/redis`."
  @spec script(Scripts.name(), [iodata | integer]) :: command
  def script(name, arguments), do: ["EVALSHA", Scripts.digest(name), "0" | arguments]

  defp measured(client, commands, timeout_ms) do
    started = System.monotonic_time(:microsecond)
    result = ask(client, commands, timeout_ms)
    duration_ms = div(System.monotonic_time(:microsecond) - started, 1000)
    measured = %{duration_ms: duration_ms, commands: length(commands)}
    Telemetry.execute([:koma, :redis, :answered], measured, %{outcome: outcome(result)})
    report(client, result)
    result
  end

  defp ask(client, commands, timeout_ms) do
    with {:ok, replies} <- send_all(client, commands, timeout_ms) do
      if Enum.any?(replies, &unknown_script?/1),
        do: again(client, Enum.zip(commands, replies), timeout_ms),
        else: {:ok, replies}
    end
  catch
    :exit, {:timeout, _call} -> {:error, :timeout}
    :exit, _gone -> {:error, :closed}
  end

  defp send_all(client, commands, timeout_ms) do
    case :eredis.qp(client, commands, timeout_ms) do
      replies when is_list(replies) -> {:ok, Enum.map(replies, &reply/1)}
      {:error, _reason} -> {:error, :closed}
    end
  end

  # Somebody had Redis forget its scripts (SCRIPT FLUSH): it learns them again. Only what was not
  # carried out for want of a script is sent once more.
  defp again(client, answered, timeout_ms) do
    left = for {command, reply} <- answered, unknown_script?(reply), do: command

    load = Scripts.load()

    # With one round trip, so that nothing comes between.
    with {:ok, replies} <- send_all(client, load ++ left, timeout_ms) do
      replies = Enum.drop(replies, length(load))
      {merged, []} = Enum.map_reduce(answered, replies, &later_reply/2)
      {:ok, merged}
    end
  end

  defp later_reply({_command, reply}, replies) do
    if unknown_script?(reply), do: {hd(replies), tl(replies)}, else: {reply, replies}
  end

  defp unknown_script?(reply), do: match?({:error, <<"NOSCRIPT", _::binary>>}, reply)

  # eredis takes an error that came in two TCP packets for an answer. Nothing that Koma reads begins so.
  defp reply({:ok, <<first, _::binary>> = text}) when first in ?A..?Z do
    if text =~ @error, do: {:error, text}, else: {:ok, text}
  end

  defp reply({:ok, value}), do: {:ok, value(value)}
  defp reply({:error, text}), do: {:error, text}

  # Erlang's word for nothing.
  defp value(:undefined), do: nil
  defp value(values) when is_list(values), do: Enum.map(values, &value/1)
  defp value(bytes), do: bytes

  defp outcome({:ok, _replies}), do: :ok
  defp outcome({:error, reason}), do: reason

  defp report(client, {:ok, replies}) do
    # It answers, but takes no commands: it loads its data, became a replica, knows no script.
    if Enum.any?(replies, &useless?/1),
      do: Connection.failed(client, :useless),
      else: Connection.answered(client)
  end

  defp report(client, {:error, reason}), do: Connection.failed(client, reason)

  defp useless?({:error, <<"LOADING", _::binary>>}), do: true
  defp useless?({:error, <<"READONLY", _::binary>>}), do: true
  defp useless?({:error, <<"NOSCRIPT", _::binary>>}), do: true
  defp useless?({:error, <<"NOAUTH", _::binary>>}), do: true
  defp useless?({:error, <<"MASTERDOWN", _::binary>>}), do: true
  defp useless?(_reply), do: false
end
