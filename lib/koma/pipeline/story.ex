defmodule Koma.Pipeline.Story do
  @moduledoc "Pipelines that have a name. `story`: a video is described, painted, and set in motion again."

  @stages [
    %{
      "name" => "caption",
      "task" => "video.understand",
      "params" => %{"prompt" => "Describe this video."},
      "inputs" => %{"video" => %{"from" => "input.video"}}
    },
    %{
      "name" => "image",
      "task" => "image.generate",
      "params" => %{"prompt" => %{"from" => "caption.text"}}
    },
    %{
      "name" => "video",
      "task" => "video.generate",
      "params" => %{"prompt" => %{"from" => "caption.text"}},
      "inputs" => %{"image" => %{"from" => "image.image"}}
    }
  ]

  @named %{"story" => @stages}

  @doc "The stages of a named pipeline, in the form in which clients post their own."
  @spec stages(String.t()) :: {:ok, [map]} | {:error, Koma.Error.t()}
  def stages(name) do
    with :error <- Map.fetch(@named, name) do
      known = @named |> Map.keys() |> Enum.join(", ")
      message = "There is no pipeline of this name; known are #{known}."
      details = [field: "pipeline", value: name, bound: known]
      {:error, Koma.Error.new("invalid_value", message, details)}
    end
  end
end
