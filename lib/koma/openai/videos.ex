defmodule Koma.OpenAI.Videos do
  @moduledoc """
  `/v1/videos`: clips as jobs that clients ask after: make, read, list, fetch, delete. A video is the
  job of `video.generate` with the same id.
  """

  @behaviour Koma.HTTP.Handler

  alias Koma.{Access, Error, Follower, Params}
  alias Koma.HTTP.{Artifacts, Reply}
  alias Koma.OpenAI.{Outputs, Refusal, Video, VideoForm}

  @task "video.generate"
  # The newest ones; a job that is older than these is found by its id.
  @most 1_000

  @list %{
    "limit" => {{:integer, 1, 100}, 20},
    "after" => {:string, nil},
    "order" => {{:one_of, ~w(asc desc)}, "desc"}
  }
  @variants ~w(video thumbnail)
  @content %{"variant" => {{:one_of, @variants}, "video"}}

  @impl true
  def methods(:collection), do: ["GET", "HEAD", "POST"]
  def methods(:item), do: ["GET", "HEAD", "DELETE"]
  def methods(:content), do: ["GET", "HEAD"]

  @impl true
  defdelegate refuse(req, error, headers), to: Refusal, as: :reply

  @impl true
  def handle(:collection, "POST", req, caller) do
    with {:ok, body, req} <- VideoForm.read(req, caller),
         {:ok, job} <- VideoForm.submit(body, @task, caller) do
      headers = %{"x-request-id" => job["id"], "openai-poll-after-ms" => Video.poll_ms(nil)}
      {:ok, Reply.json(req, 200, Video.new(job, nil), headers)}
    end
  end

  def handle(:collection, _get, req, caller) do
    given = req |> :cowboy_req.parse_qs() |> Map.new() |> Map.take(Map.keys(@list))

    with {:ok, query} <- Params.check(Params.from_query(given, @list), @list),
         {:ok, jobs} <- page(query, caller) do
      {page, more} = Enum.split(jobs, query["limit"])
      videos = Enum.map(page, &Video.new(&1, nil))

      body = %{
        "object" => "list",
        "data" => videos,
        "first_id" => videos |> List.first(%{}) |> Map.get("id"),
        "last_id" => videos |> List.last(%{}) |> Map.get("id"),
        "has_more" => more != []
      }

      {:ok, Reply.json(req, 200, body)}
    end
  end

  def handle(:item, "DELETE", req, caller) do
    id = id(req)

    with {:ok, job} <- find(id, caller),
         :ok <- end_it(job, caller),
         :ok <- Koma.forget(id, caller) do
      body = %{"id" => id, "object" => "video.deleted", "deleted" => true}
      {:ok, Reply.json(req, 200, body)}
    end
  end

  def handle(:item, _get, req, caller) do
    with {:ok, job} <- find(id(req), caller) do
      progress = progress(job, caller)
      headers = %{"x-request-id" => job["id"], "openai-poll-after-ms" => Video.poll_ms(progress)}
      {:ok, Reply.json(req, 200, Video.new(job, progress), headers)}
    end
  end

  def handle(:content, _get, req, caller) do
    query = req |> :cowboy_req.parse_qs() |> Map.new() |> Map.take(Map.keys(@content))

    with {:ok, %{"variant" => variant}} <- Params.check(query, @content),
         {:ok, job} <- find(id(req), caller),
         {:ok, output} <- output(job, variant) do
      Artifacts.serve(req, output["artifact"], caller)
    end
  end

  defp page(%{"after" => cursor, "order" => order}, caller) do
    jobs = Koma.jobs(caller, %{"task" => @task, "limit" => @most})
    jobs = if order == "asc", do: Enum.reverse(jobs), else: jobs

    case cursor && Enum.drop_while(jobs, &(&1["id"] != cursor)) do
      nil -> {:ok, jobs}
      [_last_seen | rest] -> {:ok, rest}
      [] -> {:error, absent(cursor, "after")}
    end
  end

  defp find(id, caller) do
    case Koma.job(id, caller) do
      {:ok, %{"task" => @task} = job} -> {:ok, job}
      {:ok, _another} -> {:error, absent(id, "video_id")}
      {:error, %Error{code: "not_found"}} -> {:error, absent(id, "video_id")}
      {:error, error} -> {:error, error}
    end
  end

  defp absent(id, field) do
    message = "There is no video #{Koma.Shown.text(id)}"
    Error.new("not_found", message, field: field, value: id)
  end

  # Looks once at what the job has told so far, and follows it no longer.
  defp progress(%{"id" => id, "state" => state}, caller) do
    if Follower.terminal?(state) do
      nil
    else
      told = Koma.subscribe(id, 0, caller)
      :ok = Koma.unsubscribe(id)

      with {:ok, _job, events, _preview} <- told,
           %{data: data} <- events |> Enum.reverse() |> Enum.find(&(&1.type == "progress")),
           do: data,
           else: (_nothing_yet -> nil)
    end
  end

  defp end_it(%{"id" => id, "state" => state}, caller) do
    if Follower.terminal?(state) do
      :ok
    else
      with :ok <- Access.hold(caller, :sockets),
           {:ok, follower, _job, _events, _previews} <- Follower.start({:job, id}, :none, caller),
           :ok <- Koma.cancel(id, caller),
           do: await_end(follower)
    end
  end

  defp await_end(%Follower{ended: true}), do: :ok

  defp await_end(follower) do
    receive do
      message ->
        case Follower.handle(follower, message) do
          {:events, _events, follower} -> await_end(follower)
          _preview_or_other -> await_end(follower)
        end
    end
  end

  defp output(%{"state" => "completed"} = job, variant) do
    kind = if variant == "video", do: "video/", else: "image/"

    case Outputs.of(job, kind) do
      [output | _more] -> {:ok, output}
      [] -> {:error, none(variant)}
    end
  end

  # Not a conflict, which clients would try again.
  defp output(%{"state" => state} = job, _variant) do
    if Follower.terminal?(state) do
      {:error, Refusal.of_job(job)}
    else
      message = "The video is not there yet: it is #{state}"
      {:error, Error.new("not_found", message, field: "video_id", value: state)}
    end
  end

  defp none(variant) do
    message = "This video has no #{variant}; its model makes none"
    Error.new("not_found", message, field: "variant", value: variant)
  end

  defp id(req), do: :cowboy_req.binding(:id, req)
end
