defmodule Koma.Job.Outputs do
  @moduledoc """
  Moves the outputs of a finished attempt into the artifact store: in one step where the model node is
  one of this peer, else first into the store of its peer (`store/2`), from which they are fetched.
  """

  alias Koma.{Each, Error, Shown}
  alias Koma.Store.Artifacts

  @doc """
  Returns the outputs as clients see them (docs/api.md). Files must lie in `dir`, which the model
  node was told to use, and have the digests that it told.
  """
  @spec adopt([map], Path.t()) :: {:ok, [map]} | {:error, Error.t()}
  def adopt(outputs, dir), do: Each.map(outputs, &adopt_one(&1, dir))

  @doc "How many bytes outputs take that are to be adopted."
  @spec bytes([map]) :: non_neg_integer
  def bytes(outputs), do: outputs |> Enum.map(&size/1) |> Enum.sum()

  defp size(%{artifact: %{bytes: bytes}}), do: bytes
  defp size(%{path: nil, text: text}) when is_binary(text), do: byte_size(text)

  # What is no file is refused when it is adopted.
  defp size(%{path: path}) when is_binary(path) do
    case File.lstat(path) do
      {:ok, stat} -> stat.size
      {:error, _reason} -> 0
    end
  end

  defp size(_neither), do: 0

  @doc "As `adopt/2`, but returns the outputs as they were told, each file with its `artifact`."
  @spec store([map], Path.t()) :: {:ok, [map]} | {:error, Error.t()}
  def store(outputs, dir), do: Each.map(outputs, &store_one(&1, dir))

  # Another peer has stored it, and it was fetched.
  defp adopt_one(%{artifact: %{id: id}} = output, _dir) do
    with {:ok, artifact} <- Artifacts.fetch(id) do
      {:ok, Map.merge(common(output), file(artifact))}
    end
  end

  defp adopt_one(%{path: nil, text: text} = output, _dir) when is_binary(text) do
    {:ok, Map.merge(common(output), %{"text" => text, "bytes" => byte_size(text)})}
  end

  defp adopt_one(%{path: path} = output, dir) when is_binary(path) do
    with {:ok, artifact} <- move(output, dir) do
      {:ok, Map.merge(common(output), file(artifact))}
    end
  end

  defp adopt_one(%{name: name}, _dir) do
    {:error,
     Error.new("model_failed", "The output #{Shown.text(name)} has neither path nor text")}
  end

  defp store_one(%{path: path} = output, dir) when is_binary(path) do
    with {:ok, artifact} <- move(output, dir), do: {:ok, Map.put(output, :artifact, artifact)}
  end

  defp store_one(output, _dir), do: {:ok, output}

  defp move(%{path: path} = output, dir) do
    with {:ok, path} <- own_file(path, dir),
         do: Artifacts.adopt(path, output.media_type, output.sha256 || "")
  end

  # A link, also one on the way, would make a file of somebody else's an artifact that the job's key may read.
  defp own_file(path, dir) do
    expanded = Path.expand(path)
    dir = Path.expand(dir)

    cond do
      not String.starts_with?(expanded, dir <> "/") -> refuse(path, "lies outside #{dir}")
      not Enum.all?(folders(expanded, dir), &folder?/1) -> refuse(path, "lies behind a link")
      true -> with :ok <- file(path, File.lstat(expanded)), do: {:ok, expanded}
    end
  end

  # What is not there is told when it is read.
  defp file(_path, {:error, _absent}), do: :ok
  defp file(_path, {:ok, %File.Stat{type: :regular, links: 1}}), do: :ok
  defp file(path, {:ok, %File.Stat{type: :regular}}), do: refuse(path, "has other names, too")
  defp file(path, {:ok, %File.Stat{type: type}}), do: refuse(path, "is no file but a #{type}")

  defp folders(dir, dir), do: [dir]
  defp folders(path, dir), do: [Path.dirname(path) | folders(Path.dirname(path), dir)]

  defp folder?(path) do
    case File.lstat(path) do
      {:ok, %File.Stat{type: type}} -> type == :directory
      {:error, _absent} -> true
    end
  end

  defp refuse(path, reason) do
    {:error, Error.new("model_failed", "The output #{Shown.text(path)} #{reason}")}
  end

  defp common(output) do
    %{"name" => output.name, "media_type" => output.media_type, "meta" => output.meta || %{}}
  end

  defp file(artifact) do
    %{
      "artifact" => artifact.id,
      "bytes" => artifact.bytes,
      "url" => "/v1/artifacts/#{artifact.id}"
    }
  end
end
