defmodule Koma.OpenAI.Video do
  @moduledoc "A job of `video.generate` as the video that OpenAI's clients read. Pure."

  alias Koma.OpenAI.Refusal

  @states %{
    "accepted" => "queued",
    "queued" => "queued",
    "retrying" => "queued",
    "running" => "in_progress",
    "completed" => "completed"
  }
  # How often it is worth asking: by the time that is left, at most every 5 s.
  @poll_ms 500
  @longest_ms 5_000

  @doc "The video; `progress` is the payload of the job's last event `progress`, if it had one."
  @spec new(job :: map, progress :: map | nil) :: map
  def new(%{"params" => params} = job, progress) do
    %{
      "id" => job["id"],
      "object" => "video",
      "model" => job["model"],
      # OpenAI's clients know no other end than these two.
      "status" => Map.get(@states, job["state"], "failed"),
      "progress" => percent(job["state"], progress),
      "created_at" => div(job["created_at"], 1000),
      "completed_at" => if(job["finished_at"], do: div(job["finished_at"], 1000)),
      "expires_at" => nil,
      "prompt" => params["prompt"],
      "size" => "#{params["width"]}x#{params["height"]}",
      "seconds" => seconds(params),
      "num_frames" => params["frames"],
      "fps" => params["fps"],
      "seed" => params["seed"],
      "remixed_from_video_id" => nil,
      "error" => error(job)
    }
  end

  @doc "After how many milliseconds a client asks again."
  @spec poll_ms(progress :: map | nil) :: String.t()
  def poll_ms(%{"eta_ms" => ms}) when is_number(ms) do
    ms |> round() |> div(4) |> max(@poll_ms) |> min(@longest_ms) |> Integer.to_string()
  end

  def poll_ms(_unknown), do: Integer.to_string(@poll_ms)

  # Steps are nearly all of the time; the file is written after the last one.
  defp percent("completed", _progress), do: 100

  defp percent(_state, %{"phase" => "step", "step" => step, "total" => total}) when total > 0,
    do: min(div(100 * step, total), 99)

  defp percent(_state, %{"phase" => "finish"}), do: 99
  defp percent(_state, _nothing_yet), do: 0

  # A text, as OpenAI has it: "4", or "3.125" where it is no whole number.
  defp seconds(%{"frames" => frames, "fps" => fps}) when rem(frames, fps) == 0,
    do: Integer.to_string(div(frames, fps))

  defp seconds(%{"frames" => frames, "fps" => fps}),
    do: :erlang.float_to_binary(frames / fps, [:compact, decimals: 3])

  defp error(%{"error" => %{}} = job) do
    error = Refusal.of_job(job)
    %{"code" => Refusal.code(error), "message" => error.message}
  end

  defp error(_job), do: nil
end
