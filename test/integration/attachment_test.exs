defmodule Koma.AttachmentTest do
  @moduledoc "Files that come inside of requests: `data:` URIs where the id of an artifact may stand."
  use Koma.EdgeCase

  alias Koma.Pipeline

  @json {"content-type", "application/json"}
  @bytes "Koma, one frame of a film"
  @uri "data:text/plain;base64," <> Base.encode64(@bytes)
  @id Base.encode16(:crypto.hash(:sha256, @bytes), case: :lower)

  defp job(uri),
    do: %{"task" => "toy.run", "params" => %{"steps" => 1}, "inputs" => %{"file" => uri}}

  defp post(port, body, headers \\ []) do
    http(port, "POST", "/v1/jobs?wait=true", [@json | headers], Koma.JSON.encode!(body))
  end

  test "a job is that of the artifact of the same bytes, over HTTP and over the socket", %{
    dir: dir
  } do
    port = start_server(dir)

    assert %{"state" => "completed", "inputs" => %{"file" => @id}} = json(post(port, job(@uri)))
    {200, %{"content-type" => "text/plain"}, @bytes} = http(port, "GET", "/v1/artifacts/" <> @id)

    socket = connect(port)
    join!(socket, "jobs")
    answer = ask(socket, "jobs", "submit", job(@uri))
    assert %{"status" => "ok", "response" => %{"inputs" => %{"file" => @id}}} = answer
  end

  test "a pipeline takes them as its inputs and as those of its stages, and stores them once", %{
    dir: dir
  } do
    start_server(dir)

    stage = fn name, file ->
      %{
        "name" => name,
        "task" => "toy.run",
        "params" => %{"steps" => 1},
        "inputs" => %{"file" => file}
      }
    end

    request = %{
      "stages" => [stage.("one", %{"from" => "input.clip"}), stage.("two", @uri)],
      "inputs" => %{"clip" => @uri},
      "on_disconnect" => "keep"
    }

    {:ok, %{"id" => id}} = Pipeline.submit(request, %Caller{})
    [file] = dir |> Path.join("pipelines") |> File.ls!()
    refute File.read!(Path.join([dir, "pipelines", file])) =~ Base.encode64(@bytes)

    assert eventually(fn ->
             match?({:ok, %{"state" => "completed"}}, Pipeline.get(id, %Caller{}))
           end)

    for job <- Koma.jobs(%Caller{}, %{}), do: assert(job["inputs"] == %{"file" => @id})
  end

  test "one that is broken, empty or of a type that the input does not take is told by its field",
       %{
         dir: dir
       } do
    port = start_server(dir)

    for {uri, status, code} <- [
          {"data:text/plain;base64,***", 400, "invalid_value"},
          {"data:text/plain", 400, "invalid_value"},
          {"data:text/plain;base64,", 422, "invalid_media"},
          {"data:application/pdf;base64," <> Base.encode64("%PDF-1.7"), 415, "unsupported_media"}
        ] do
      {^status, _headers, _body} = answer = post(port, job(uri))
      assert %{"error" => %{"code" => ^code, "field" => "inputs.file"}} = json(answer)
    end

    assert dir |> Path.join("artifacts") |> File.ls!() == []
  end

  test "they count against what a key may upload in a day", %{dir: dir} do
    port = start_server(dir, keys: key("a", "bytes_per_day=40"))
    mine = [{"x-api-key", secret("a")}]
    assert {200, _headers, _body} = post(port, job(@uri), mine)
    other = "data:text/plain;base64," <> Base.encode64(@bytes <> "!")
    assert {429, _headers, _body} = answer = post(port, job(other), mine)
    assert json(answer)["error"]["code"] == "quota_exceeded"
  end
end
