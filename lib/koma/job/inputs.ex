defmodule Koma.Job.Inputs do
  @moduledoc """
  The files that a job looks at: each is the id of an artifact that its key may see, or a file that
  comes with the request (`Koma.Job.Attachment`), of a media type that the task takes.
  """

  alias Koma.{Caller, Cluster, Each, Error, Shown, Transfer}
  alias Koma.Job.Attachment
  alias Koma.Store.Artifacts

  @typedoc "What the model nodes declare of the inputs of a task."
  @type specs :: %{
          String.t() => %{
            :media_types => [String.t()],
            :required => boolean,
            optional(atom) => term
          }
        }

  @doc "Checks the inputs of a job and returns the ids of their artifacts."
  @spec take(given :: map, specs, Caller.t()) ::
          {:ok, %{String.t() => String.t()}} | {:error, Error.t()}
  def take(given, specs, caller) do
    with :ok <- known(given, specs),
         :ok <- required(given, specs),
         {:ok, taken} <- Each.map(given, &input(&1, specs, caller)),
         do: {:ok, Map.new(taken)}
  end

  defp known(given, specs) do
    case Enum.find(Map.keys(given), &(not is_map_key(specs, &1))) do
      nil ->
        :ok

      name ->
        known = Map.keys(specs)
        field = "inputs.#{name}"
        message = "There is no input #{Shown.text(name)}; #{known_words(known)}"

        {:error,
         Error.new("unknown_field", message, field: field, value: given[name], bound: known)}
    end
  end

  defp known_words([]), do: "this task takes none"
  defp known_words(known), do: "known are: #{Enum.join(known, ", ")}"

  defp required(given, specs) do
    case Enum.find(specs, fn {name, spec} -> spec.required and not is_map_key(given, name) end) do
      nil ->
        :ok

      {name, _spec} ->
        message = "The input #{Shown.text(name)} is required"
        {:error, Error.new("missing_field", message, field: "inputs.#{name}")}
    end
  end

  defp input({name, value}, specs, caller) do
    with {:ok, id} <- id(value, "inputs.#{name}", specs[name].media_types, caller),
         do: {:ok, {name, id}}
  end

  defp id(value, field, media_types, %Caller{key: key} = caller) when is_binary(value) do
    if Attachment.attached?(value) do
      Attachment.store(value, field, media_types, caller)
    else
      with {:ok, artifact} <- located(value, field, key),
           :ok <- Attachment.check_type(artifact.media_type, field, media_types),
           do: {:ok, value}
    end
  end

  defp id(value, field, _media_types, _caller) do
    message = "#{field} must be the id of an artifact, or a data: URI"
    {:error, Error.new("wrong_type", message, field: field, value: value)}
  end

  defp located(id, field, key) do
    found = if Cluster.on?(), do: Transfer.find(id, key), else: Artifacts.renew(id, key)
    with {:error, error} <- found, do: {:error, %{error | field: field}}
  end
end
