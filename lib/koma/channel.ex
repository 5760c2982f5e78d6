defmodule Koma.Channel do
  @moduledoc """
  A topic that a socket has joined, and the behaviour of what serves it.

  Each joined topic of each socket is one process (`Koma.Channel.Server`), so that a crash or a
  slow call in one topic is an event of that topic (`phx_error`) and never a dropped socket, and so that
  a subscription ends by itself with the process that holds it. Idle ones hibernate.

  Between the socket's process and a channel:

  | message to the channel | |
  |---|---|
  | `{:koma_push, message, size}` | a message of the client that took `size` bytes |
  | `{:koma_written, count}` | so many pushes have been written to the TCP socket |
  | `:koma_settle` | the connection is about to be closed: send what there is to tell |

  | message to the socket: `{:koma_channel, pid, what}` | |
  |---|---|
  | `{:joined, frame}`, `{:refused, frame}` | the answer to the join; after a refusal the channel ends |
  | `{:reply, frame, size}` | the answer to a push of `size` bytes |
  | `{:push, frames}` | events and previews; the socket answers `{:koma_written, count}` |
  | `:settled` | the answer to `:koma_settle`: every event so far has been sent |
  """

  alias Koma.Channel.Server

  @typedoc """
  What a channel sends on its own. `:event` is never dropped; of the previews with the same key
  the latest wins; after `:last` nothing comes, so that waiting previews are dropped.
  """
  @type push ::
          {:event | :last, name :: String.t(), json :: iodata}
          | {:preview, key :: term, Koma.Channel.Preview.t()}

  @typedoc "The response of an answer: an object, or the JSON text of one."
  @type response :: map | {:json, iodata}

  @doc "Enters the topic; `argument` is what the router made of its name."
  @callback join(argument :: term, payload :: term, Koma.Caller.t()) ::
              {:ok, response, [push], state :: term}
              | {:error, Koma.Error.t()}
              | {:error, Koma.Error.t(), in_other_words :: map}

  @doc "Answers a push of the client; pushes go before the answer."
  @callback handle_in(event :: String.t(), payload :: term, state :: term) ::
              {:ok, response, state :: term}
              | {:ok, response, [push], state :: term}
              | {:error, Koma.Error.t(), state :: term}

  @doc "Turns a message of the core into pushes."
  @callback handle_info(message :: term, state :: term) :: {[push], state :: term}

  defmodule Join do
    @moduledoc "What it takes to enter a topic."

    @enforce_keys [:socket, :caller, :module, :argument, :message]
    defstruct [:socket, :caller, :module, :argument, :message]

    @type t :: %__MODULE__{
            socket: pid,
            caller: Koma.Caller.t(),
            module: module,
            argument: term,
            message: Koma.Channel.Message.t()
          }
  end

  @doc "Starts the process of a topic; the answer to the join comes as a message."
  @spec start(Join.t()) :: {:ok, pid}
  def start(%Join{} = join) do
    {:ok, _pid} = DynamicSupervisor.start_child(Koma.Channel.Supervisor, {Server, join})
  end

  @doc "Hands a message of the client to the channel."
  @spec push(pid, Koma.Channel.Message.t(), size :: non_neg_integer) :: :ok
  def push(channel, message, size) do
    send(channel, {:koma_push, message, size})
    :ok
  end

  @doc "Tells the channel that so many of its pushes are on their way to the client."
  @spec written(pid, pos_integer) :: :ok
  def written(channel, count) do
    send(channel, {:koma_written, count})
    :ok
  end

  @doc "Asks the channel to tell when all its events so far are sent."
  @spec settle(pid) :: :ok
  def settle(channel) do
    send(channel, :koma_settle)
    :ok
  end

  @doc "Ends the channel at once; what it was about to send is lost."
  @spec stop(pid) :: :ok
  def stop(channel) do
    true = Process.exit(channel, :shutdown)
    :ok
  end

  @doc "An error as the response of a refusal; `reason` repeats the message, as clients print it."
  @spec refusal(Koma.Error.t()) :: map
  def refusal(%Koma.Error{} = error) do
    error |> Koma.Error.to_map() |> Map.put("reason", error.message)
  end
end
