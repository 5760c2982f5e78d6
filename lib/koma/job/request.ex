defmodule Koma.Job.Request do
  @moduledoc """
  Turns what a client sent into a record, or into an error that names field, value and bound.
  The parameters are checked against the schema that the model nodes declared, and filled with
  its defaults; a seed that was left open is drawn here, once, so that a retry repeats the result.
  """

  alias Koma.Cache.Fingerprint
  alias Koma.{Caller, Cluster, Error, ModelNode, Once, Options, Schema}
  alias Koma.Job.{Inputs, Record}
  alias Koma.Queue.Cost

  # 32 bits: what every generator of the model families takes, and exact in JSON.
  @max_seed 0xFFFF_FFFF
  @max_deadline_ms 24 * 60 * 60 * 1000

  @choice fn values -> %{"type" => "string", "enum" => values} end
  @schema %{
    "type" => "object",
    "additionalProperties" => false,
    "required" => ["task"],
    "properties" => %{
      "task" => %{"type" => "string"},
      "model" => %{"type" => ["string", "null"], "default" => nil},
      "params" => %{"type" => "object", "default" => %{}},
      "inputs" => %{"type" => "object", "default" => %{}},
      "priority" => Map.put(@choice.(~w(interactive batch)), "default", "interactive"),
      "on_disconnect" => Map.put(@choice.(~w(cancel keep)), "default", "cancel"),
      "cache" => %{"type" => ["boolean", "null"], "default" => nil},
      "deadline_ms" => %{
        "type" => ["integer", "null"],
        "minimum" => 1,
        "maximum" => @max_deadline_ms,
        "default" => nil
      }
    }
  }

  @draft %{
    @schema
    | "properties" => Map.take(@schema["properties"], ~w(task model params))
  }

  @doc """
  Checks a job request (docs/api.md) and makes the record of a new job. One with an idempotency key
  gets the id that follows from it.
  """
  @spec build(term, Once.t() | nil, Caller.t()) :: {:ok, Record.t()} | {:error, Error.t()}
  def build(request, _once, _caller) when not is_map(request) do
    {:error, Error.new("invalid_request", "A job request is an object", value: request)}
  end

  def build(request, once, %Caller{} = caller) do
    with {:ok, request} <- Schema.check(@schema, request),
         {:ok, family, spec} <- ModelNode.Catalogue.task(request["task"], request["model"]),
         {:ok, params} <- Schema.check(spec.params, request["params"]),
         {:ok, inputs} <- Inputs.take(request["inputs"], spec.inputs, caller) do
      request = %{request | "inputs" => inputs}
      record = request |> record(family, seeded(params, spec.params), caller) |> identify(once)
      record = %{record | size: Cost.size(spec.params, params)}
      {:ok, if(shared?(request, params, spec), do: share(record, params), else: record)}
    end
  end

  @doc """
  Checks the parameters of a job that somebody is still writing, as far as they are there: returns the family
  that would run it, its task and these parameters.
  """
  @spec draft(term) ::
          {:ok, family :: String.t(), task :: String.t(), params :: map} | {:error, Error.t()}
  def draft(request) do
    with {:ok, %{"task" => task, "params" => given} = request} <- Schema.check(@draft, request),
         {:ok, family, spec} <- ModelNode.Catalogue.task(task, request["model"]),
         {:ok, params} <- Schema.check(Map.delete(spec.params, "required"), given),
         do: {:ok, family, task, Map.take(params, Map.keys(given))}
  end

  # Who leaves the seed open wants something new each time, unless they say otherwise.
  defp shared?(%{"cache" => asked}, params, spec) do
    open_seed? = Schema.property(spec.params, "seed") != nil and params["seed"] == nil
    Options.get().share_results and asked != false and (asked == true or not open_seed?)
  end

  # With the seed as it was asked for: where it may be any, any result is the one.
  defp share(record, params) do
    case ModelNode.Catalogue.checkpoint(record.model) do
      {:ok, checkpoint} ->
        fingerprint = Fingerprint.of(record.task, checkpoint, params, record.inputs)
        %{record | checkpoint: checkpoint, fingerprint: fingerprint}

      :error ->
        record
    end
  end

  defp record(request, family, params, caller) do
    %Record{
      id: "job_" <> Cluster.tag() <> random_name(),
      key: caller.key,
      task: request["task"],
      model: family,
      created_at: System.system_time(:millisecond),
      params: params,
      seed: params["seed"],
      inputs: request["inputs"],
      priority: request["priority"],
      on_disconnect: request["on_disconnect"],
      deadline_ms: request["deadline_ms"]
    }
  end

  defp identify(record, nil), do: record

  defp identify(record, %Once{name: name, digest: digest}),
    do: %{record | id: "job_" <> Cluster.tag() <> name, once: digest}

  # 128 random bits: not to be guessed.
  defp random_name, do: Base.encode32(:crypto.strong_rand_bytes(16), case: :lower, padding: false)

  defp seeded(params, schema) do
    case {Schema.property(schema, "seed"), params["seed"]} do
      {nil, _no_seed} -> params
      {property, nil} -> Map.put(params, "seed", draw(Schema.maximum(property)))
      {_property, _given} -> params
    end
  end

  defp draw(maximum) do
    bound = if maximum, do: min(trunc(maximum), @max_seed), else: @max_seed
    <<random::64>> = :crypto.strong_rand_bytes(8)
    rem(random, bound + 1)
  end
end
