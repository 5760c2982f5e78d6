defmodule Koma.Wire.Messages do
  @moduledoc """
  The messages between gateway and model node (docs/wire.md), one struct each, and their way to
  bytes and back. Decoding is strict and per direction: what the other side may not send is an
  error. A nullable field may be absent; fields that this version does not know are ignored.
  """

  import Koma.Wire.Message, only: [message: 3, message: 2]

  alias Koma.Wire.{Message, Msgpack}

  @protocol 1
  # Artifacts of one job.
  @max_outputs 16

  @error_codes Map.keys(Koma.Error.codes())

  @input [path: :str, sha256: :str, media_type: :str, bytes: :int]
  @input_spec [media_types: {:list, :str}, required: :bool, description: :str]
  @task_spec [
    params: :map,
    inputs: {:map_of, {:record, @input_spec}},
    outputs: {:map_of, :str}
  ]
  @output [
    name: :str,
    media_type: :str,
    path: {:nullable, :str},
    sha256: {:nullable, :str},
    bytes: {:nullable, :int},
    text: {:nullable, :str},
    meta: {:nullable, :map}
  ]

  Module.register_attribute(__MODULE__, :messages, accumulate: true)

  message(Hello, "hello", protocol: :int, node: :str)

  message(Load, "load",
    id: :str,
    family: :str,
    checkpoint: :str,
    device: :str,
    dtype: :str,
    slots: :int,
    options: :map
  )

  message(Unload, "unload", id: :str)

  message(Submit, "submit",
    id: :str,
    attempt: :positive,
    task: :str,
    params: :map,
    inputs: {:map_of, {:record, @input}},
    output_dir: :str,
    previews: :bool
  )

  message(Cancel, "cancel", id: :str)
  message(Count, "count", id: :str, task: :str, params: :map)
  message(Drain, "drain")
  message(Ping, "ping", seq: :int)

  @from_gateway @messages
  Module.delete_attribute(__MODULE__, :messages)
  Module.register_attribute(__MODULE__, :messages, accumulate: true)

  message(Ready, "ready",
    id: {:nullable, :str},
    protocol: :int,
    pid: :int,
    families: {:list, :str},
    family: {:nullable, :str},
    checkpoint: {:nullable, :str},
    checkpoint_digest: {:nullable, :str},
    tasks: {:map_of, {:record, @task_spec}},
    device: :str,
    dtype: :str,
    slots: :int,
    memory_bytes: :int,
    notice: {:nullable, :str}
  )

  message(Accepted, "accepted", id: :str, attempt: :positive, total: :int, estimate_ms: :int)

  message(Progress, "progress",
    id: :str,
    phase: {:one_of, ~w(prepare step finish)},
    step: :int,
    total: :int,
    eta_ms: :int,
    prompts: {:nullable, :map}
  )

  message(Counted, "counted", id: :str, prompts: :map)

  message(Preview, "preview",
    id: :str,
    step: :int,
    media_type: :str,
    data: :bin,
    width: :int,
    height: :int
  )

  message(Token, "token", id: :str, index: :int, text: :str)

  message(Done, "done",
    id: :str,
    outputs: {:list, {:record, @output}},
    seed: :int,
    timings: {:map_of, :number}
  )

  message(Failed, "failed",
    id: :str,
    scope: {:one_of, ~w(job batch node)},
    code: {:one_of, @error_codes},
    message: :str,
    field: {:nullable, :str},
    value: {:nullable, :any},
    bound: {:nullable, :any}
  )

  message(Log, "log",
    level: {:one_of, ~w(debug info warning error)},
    message: :str,
    fields: :map
  )

  message(Stats, "stats",
    running: :int,
    waiting: :int,
    slots: :int,
    forwards: :int,
    rows: :int,
    last_batch: :int,
    step_ms: :number,
    memory_bytes: :int,
    device_memory_bytes: :int
  )

  message(Pong, "pong", seq: :int, busy_ms: :int)

  @from_node @messages

  @rows Map.new(@from_gateway ++ @from_node, fn {module, type, fields} ->
          {module, {type, fields}}
        end)
  @gateway_types Map.new(@from_gateway, fn {module, type, _fields} -> {type, module} end)
  @node_types Map.new(@from_node, fn {module, type, _fields} -> {type, module} end)

  @type t :: struct

  @doc "The version of the protocol that this side speaks."
  @spec protocol() :: pos_integer
  def protocol, do: @protocol

  @doc "How many outputs one `done` may have."
  @spec max_outputs() :: pos_integer
  def max_outputs, do: @max_outputs

  @doc "Every message: its `type`, its struct and its direction, for documents and golden files."
  @spec all() :: [{String.t(), module, :from_gateway | :from_node}]
  def all do
    for({type, module} <- @gateway_types, do: {type, module, :from_gateway}) ++
      for {type, module} <- @node_types, do: {type, module, :from_node}
  end

  @doc "The bytes of a message, without the frame's length."
  @spec encode(t) :: iodata
  def encode(%module{} = message) do
    {type, fields} = Map.fetch!(@rows, module)

    {:record, fields}
    |> Message.dump(Map.from_struct(message))
    |> Map.put("type", type)
    |> Msgpack.encode()
  end

  @doc "Reads a message that a model node sent."
  @spec decode_from_node(binary) :: {:ok, t} | {:error, String.t()}
  def decode_from_node(frame), do: decode(frame, @node_types)

  @doc "Reads a message that a gateway sent."
  @spec decode_from_gateway(binary) :: {:ok, t} | {:error, String.t()}
  def decode_from_gateway(frame), do: decode(frame, @gateway_types)

  defp decode(frame, types) do
    with {:ok, map} <- Msgpack.decode(frame),
         {:ok, module} <- message_type(map, types),
         {_type, fields} = Map.fetch!(@rows, module),
         {:ok, pairs} <- Message.record(fields, map),
         :ok <- bounded(pairs) do
      {:ok, struct!(module, pairs)}
    end
  end

  defp message_type(%{"type" => type}, types) when is_map_key(types, type) do
    {:ok, Map.fetch!(types, type)}
  end

  defp message_type(%{"type" => type}, _types), do: {:error, "unknown type #{inspect(type)}"}
  defp message_type(%{}, _types), do: {:error, "a message without type"}
  defp message_type(_other, _types), do: {:error, "a frame that is not a map"}

  defp bounded(pairs) do
    case Keyword.get(pairs, :outputs) do
      outputs when is_list(outputs) and length(outputs) > @max_outputs ->
        {:error, "#{length(outputs)} outputs are more than #{@max_outputs}"}

      _none_or_few ->
        :ok
    end
  end
end
